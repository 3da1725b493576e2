/** Keyboard behaviour of a tree as the ARIA Authoring Practices describe it, without any DOM. */

export interface VisibleNode {
  id: string;
  label: string;
  parentId: string | null;
  expandable: boolean;
  expanded: boolean;
}

export type TreeAction =
  | { kind: 'focus'; id: string }
  | { kind: 'expand'; ids: string[] }
  | { kind: 'collapse'; id: string }
  | { kind: 'activate'; id: string };

export function actionFor(key: string, nodes: VisibleNode[], currentId: string): TreeAction | null {
  const at = nodes.findIndex((node) => node.id === currentId);
  const current = nodes[at];
  if (!current) return null;
  switch (key) {
    case 'ArrowDown':
      return focus(nodes[at + 1]);
    case 'ArrowUp':
      return focus(nodes[at - 1]);
    case 'Home':
      return focus(nodes[0]);
    case 'End':
      return focus(nodes.at(-1));
    case 'ArrowRight':
      if (!current.expandable) return null;
      if (!current.expanded) return { kind: 'expand', ids: [current.id] };
      return nodes[at + 1]?.parentId === current.id ? focus(nodes[at + 1]) : null;
    case 'ArrowLeft':
      if (current.expandable && current.expanded) return { kind: 'collapse', id: current.id };
      return focus(nodes.find((node) => node.id === current.parentId));
    case 'Enter':
    case ' ':
      return { kind: 'activate', id: current.id };
    case '*':
      return {
        kind: 'expand',
        ids: nodes.filter((node) => node.parentId === current.parentId && node.expandable && !node.expanded).map((node) => node.id),
      };
    default:
      return null;
  }
}

/** Type-ahead: the next node, after the current one and around the end, whose name begins with what was typed. */
export function typeAhead(typed: string, nodes: VisibleNode[], currentId: string): TreeAction | null {
  const at = nodes.findIndex((node) => node.id === currentId);
  const wanted = typed.toLocaleLowerCase();
  // One letter moves on to the next match; a longer word may still match where the focus already is.
  const from = typed.length > 1 ? at : at + 1;
  const ordered = [...nodes.slice(from), ...nodes.slice(0, from)];
  return focus(ordered.find((node) => node.label.toLocaleLowerCase().startsWith(wanted)));
}

const focus = (node: VisibleNode | undefined): TreeAction | null => (node ? { kind: 'focus', id: node.id } : null);
