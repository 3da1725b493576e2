import { useEffect, useRef, useState, type KeyboardEvent } from 'react';
import { bytes } from '../shared/numbers';
import { actionFor, typeAhead, type TreeAction } from './keys';
import type { DataTreeControls, TreeNode } from './useDataTree';

interface Props {
  tree: DataTreeControls;
  label: string;
  selected: string | null;
  onOpenFile(node: TreeNode): void;
}

const TYPE_AHEAD_PAUSE_MS = 700;

/** An ARIA tree with one tab stop; arrows, Home, End, `*`, Enter and typing move within it. */
export function DataTree({ tree, label, selected, onOpenFile }: Props) {
  const [current, setCurrent] = useState<string | null>(null);
  const element = useRef<HTMLDivElement>(null);
  const typed = useRef({ text: '', at: 0 });
  const hasFocus = useRef(false);
  const stop = tree.nodes.some((node) => node.id === current) ? current : (tree.nodes[0]?.id ?? null);

  useEffect(() => {
    if (hasFocus.current) element.current?.querySelector<HTMLElement>('[tabindex="0"]')?.focus();
  }, [stop]);

  const activate = (node: TreeNode) => {
    setCurrent(node.id);
    if (node.kind === 'file') onOpenFile(node);
    else if (node.kind === 'more' && node.parentId) tree.more(node.parentId);
    else if (node.expandable) (node.expanded ? () => tree.collapse(node.id) : () => tree.expand([node.id]))();
  };

  const perform = (action: TreeAction) => {
    if (action.kind === 'focus') setCurrent(action.id);
    else if (action.kind === 'expand') tree.expand(action.ids);
    else if (action.kind === 'collapse') tree.collapse(action.id);
    else {
      const node = tree.nodes.find((candidate) => candidate.id === action.id);
      if (node) activate(node);
    }
  };

  const onKeyDown = (event: KeyboardEvent) => {
    if (!stop || event.ctrlKey || event.metaKey || event.altKey) return;
    const searching = event.timeStamp - typed.current.at < TYPE_AHEAD_PAUSE_MS && typed.current.text !== '';
    let action = event.key === ' ' && searching ? null : actionFor(event.key, tree.nodes, stop);
    if (!action && event.key.length === 1) {
      typed.current = { text: (searching ? typed.current.text : '') + event.key, at: event.timeStamp };
      action = typeAhead(typed.current.text, tree.nodes, stop);
      event.preventDefault();
    }
    if (!action) return;
    event.preventDefault();
    perform(action);
  };

  return (
    <div
      ref={element}
      role="tree"
      aria-label={label}
      className="m-tree"
      onKeyDown={onKeyDown}
      onFocus={() => (hasFocus.current = true)}
      onBlur={() => (hasFocus.current = false)}
    >
      {tree.nodes.map((node) => (
        <div
          key={node.id}
          role="treeitem"
          aria-level={node.level}
          aria-posinset={node.position}
          aria-setsize={node.setSize}
          aria-expanded={node.expandable ? node.expanded : undefined}
          aria-selected={node.kind === 'file' ? node.id === selected : undefined}
          tabIndex={node.id === stop ? 0 : -1}
          className={`m-node m-node-${node.kind}`}
          style={{ paddingInlineStart: `${(node.level - 1) * 1.25 + 0.5}rem` }}
          onClick={() => activate(node)}
        >
          <span aria-hidden="true" className="m-node-mark">
            {node.expandable ? (node.expanded ? '▾' : '▸') : ''}
          </span>
          <span className="m-node-label">{node.label}</span>
          {typeof node.sizeBytes === 'number' && <span className="m-muted">{bytes(node.sizeBytes)}</span>}
        </div>
      ))}
    </div>
  );
}
