import { Button } from 'antd';
import { useState } from 'react';
import type { Activity } from '../api/activity';
import { moduleName } from '../manifest';
import type { Services } from '../services';
import type { ConnectionState } from '../session/connection';
import type { SessionState } from '../session/session';
import { useAnnounce } from '../shared/Announcer';
import { ScrollTable } from '../shared/ScrollTable';
import { useStore } from '../shared/store';
import { duration } from '../shared/time';

export function ApiTab({ services, parameters }: { services: Services; parameters: unknown }) {
  return (
    <div className="m-columns">
      {!services.hosted && (
        <div>
          <ConnectionCard services={services} />
          <CallsCard services={services} />
        </div>
      )}
      <section className="m-card" aria-labelledby="api-snippets">
        <h2 id="api-snippets">The same run from a script</h2>
        <p>Both use the input as it stands in the form, and the address and key from your environment.</p>
        <Snippet title="Python" text={pythonSnippet(parameters)} />
        <Snippet title="Shell" text={shellSnippet(parameters)} />
      </section>
    </div>
  );
}

const CONNECTION: Record<ConnectionState['kind'], string> = {
  checking: 'Checking…',
  devkit: 'Connected to a devkit: runs with progress, cancelling and kept results.',
  'sign-in': 'A devkit answers and asks for a sign-in.',
  preview: 'Connected to a plain preview server: each run is one call without progress.',
  unreachable: 'Nothing answers at this address.',
};

function ConnectionCard({ services: { connection, session } }: { services: Services }) {
  const state = useStore(connection.state);
  const account = useStore(session.state);
  const signedIn = account.phase === 'key' || account.phase === 'bearer' || account.phase === 'ending';
  return (
    <section className="m-card" aria-labelledby="api-connection">
      <h2 id="api-connection">Connection</h2>
      <p>{CONNECTION[state.kind]}</p>
      {state.kind === 'unreachable' && <p className="m-warning-text">{state.why}</p>}
      <p>{ACCOUNT[account.phase]}</p>
      <div className="m-actions">
        <Button onClick={() => connection.probe()}>Check again</Button>
        {signedIn && <Button onClick={() => session.signOut().then(() => connection.probe())}>Sign out</Button>}
      </div>
    </section>
  );
}

const ACCOUNT: Record<SessionState['phase'], string> = {
  open: 'Not signed in from this page.',
  key: 'Signed in with an API key, kept in memory until this page is closed.',
  bearer: 'Signed in; the session is renewed while you work.',
  ending: 'Signed in; the session is about to end.',
  expired: 'Not signed in.',
};

function CallsCard({ services: { client } }: { services: Services }) {
  const entries = useStore(client.activity.entries);
  return (
    <section className="m-card" aria-labelledby="api-calls">
      <h2 id="api-calls">Calls of this page</h2>
      {entries.length === 0 ? (
        <p>None yet.</p>
      ) : (
        <ScrollTable label="Calls of this page" columns={['Call', 'Attempts', 'Outcome', 'Took']}>
          {entries.map((entry) => (
            <tr key={entry.id}>
              <th scope="row">
                <code>
                  {entry.method} {entry.path}
                </code>
              </th>
              <td>{entry.attempt}</td>
              <td>{outcome(entry)}</td>
              <td>{entry.elapsedMs === undefined ? '' : duration(entry.elapsedMs)}</td>
            </tr>
          ))}
        </ScrollTable>
      )}
    </section>
  );
}

const outcome = (entry: Activity): string => entry.outcome ?? (entry.retry ? `waiting to retry: ${entry.retry.reason}` : 'under way');

function Snippet({ title, text }: { title: string; text: string }) {
  const [copied, setCopied] = useState(false);
  const announce = useAnnounce();
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    announce(`${title} copied.`);
  };
  return (
    <div>
      <div className="m-heading">
        <h3>{title}</h3>
        <Button size="small" onClick={copy} aria-label={`Copy ${title}`}>
          {copied ? 'Copied' : 'Copy'}
        </Button>
      </div>
      <pre className="m-log" tabIndex={0} aria-label={`${title} example`}>
        {text}
      </pre>
    </div>
  );
}

const indent = (value: unknown, by: string): string => JSON.stringify(value, null, 2).replaceAll('\n', `\n${by}`);

const pythonSnippet = (parameters: unknown): string => `import json

from hla_compass import APIClient

parameters = json.loads(r"""
${JSON.stringify(parameters, null, 2)}
""")
client = APIClient()
run = client.start_module_run("${moduleName}", parameters, mode="async")
result = client.wait_for_module_run(run["runId"])
print(result["data"]["summary"])
`;

const shellSnippet = (parameters: unknown): string => `curl -sS "$HLA_API_ENDPOINT/v1/module-runs" \\
  -H "X-API-Key: $HLA_API_KEY" -H "Content-Type: application/json" \\
  --data-binary @- <<'JSON'
{
  "moduleId": "${moduleName}",
  "mode": "async",
  "parameters": ${indent(parameters, '  ')}
}
JSON
`;
