import { Button } from 'antd';
import { Notice } from '../shared/Notice';
import { useStore } from '../shared/store';
import type { Connection } from './connection';

/** Nothing answered when the page opened; everything but running still works. */
export function Unreachable({ connection }: { connection: Connection }) {
  const state = useStore(connection.state);
  if (state.kind !== 'unreachable') return null;
  return (
    <Notice
      tone="danger"
      title="No devkit answers here"
      actions={
        <Button size="small" onClick={() => connection.probe()}>
          Check again
        </Button>
      }
    >
      <p>
        {state.why} Start it with <code>python -m devkit_api</code>; what you have entered stays here.
      </p>
    </Notice>
  );
}
