import { Button } from 'antd';
import { useEffect, useState } from 'react';
import { explain } from '../api/failure';
import type { DataSource } from '../api/localData';
import type { FormControls } from '../form/useForm';
import { Notice } from '../shared/Notice';
import { plural } from '../shared/numbers';
import { DataTree } from '../tree/DataTree';
import { linesIn } from '../tree/peptidesIn';
import { useDataTree, type TreeNode } from '../tree/useDataTree';

export function LocalDataTab({ source, form, onStart }: { source: DataSource | null; form: FormControls; onStart(): void }) {
  if (source) return <Browser source={source} form={form} onStart={onStart} />;
  return (
    <section className="m-card m-empty">
      <h2>No files to browse here</h2>
      <p>This page is shown by a host that does not share its storage. Paste your peptides into the form instead.</p>
    </section>
  );
}

function Browser({ source, form, onStart }: { source: DataSource; form: FormControls; onStart(): void }) {
  const tree = useDataTree(source);
  const [file, setFile] = useState<TreeNode | null>(null);
  return (
    <div className="m-browser">
      <section className="m-card" aria-labelledby="files">
        <div className="m-heading">
          <h2 id="files">Files</h2>
          <Button size="small" onClick={tree.reload}>
            Read again
          </Button>
        </div>
        {tree.status === 'loading' && <p>Loading…</p>}
        {typeof tree.status === 'object' && (
          <Notice tone="danger" title="The folders could not be listed">
            <p>{tree.status.failed}</p>
          </Notice>
        )}
        {tree.status === 'ready' && tree.nodes.length === 0 && (
          <p>No folder is shared yet. Name one in the devkit’s settings, then read again.</p>
        )}
        {tree.nodes.length > 0 && <DataTree tree={tree} label="Local data" selected={file?.id ?? null} onOpenFile={setFile} />}
        <p className="m-muted">Arrows open and close folders, typing jumps to a name, Enter shows a file.</p>
      </section>
      <section className="m-card" aria-labelledby="preview">
        <h2 id="preview">{file ? file.label : 'Preview'}</h2>
        {file ? <Preview key={file.id} file={file} source={source} form={form} onStart={onStart} /> : <p>Choose a file to see how it begins.</p>}
      </section>
    </div>
  );
}

type Loaded = { text: string; truncated: boolean } | { failed: string } | null;

function Preview({ file, source, form, onStart }: { file: TreeNode; source: DataSource; form: FormControls; onStart(): void }) {
  const [loaded, setLoaded] = useState<Loaded>(null);
  useEffect(() => {
    const abort = new AbortController();
    source
      .read(file.root, file.path, abort.signal)
      .then(setLoaded)
      .catch((error: unknown) => !abort.signal.aborted && setLoaded({ failed: explain(error) }));
    return () => abort.abort();
  }, [file, source]);

  if (!loaded) return <p role="status">Loading…</p>;
  if ('failed' in loaded) {
    return (
      <Notice tone="danger" title="The file could not be read">
        <p>{loaded.failed}</p>
      </Notice>
    );
  }
  const target = form.fields.find((field) => field.kind === 'lines');
  const found = target ? linesIn(loaded.text, target.schema) : [];
  const use = () => {
    if (!target) return;
    form.set(target.key, found.join('\n'));
    onStart();
  };
  return (
    <>
      <p role="status">
        {found.length > 0 ? `${plural(found.length, 'peptide')} found.` : 'No peptide of the expected form found.'}
        {loaded.truncated && ' Only the beginning of the file is shown and read.'}
      </p>
      <Button type="primary" disabled={found.length === 0} onClick={use}>
        Use in the form
      </Button>
      <pre className="m-log" tabIndex={0} aria-label={`Beginning of ${file.label}`}>
        {loaded.text || 'The file is empty.'}
      </pre>
    </>
  );
}
