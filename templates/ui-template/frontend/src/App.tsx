import { Tabs } from 'antd';
import { useCallback, useEffect, useMemo, useState } from 'react';
import { useForm } from './form/useForm';
import { exampleValues } from './form/values';
import type { ModuleProps } from './host';
import { moduleDescription } from './manifest';
import { readResults, type MotifResults } from './results';
import { useRun } from './run/useRun';
import { chooseRunner, chooseSource, createServices, type Services } from './services';
import { RetryNotice } from './session/RetryNotice';
import { SessionNotice } from './session/SessionNotice';
import { Unreachable } from './session/Unreachable';
import { Announcer } from './shared/Announcer';
import { Notice } from './shared/Notice';
import { useStore } from './shared/store';
import { ApiTab } from './tabs/ApiTab';
import { ChartsTab } from './tabs/ChartsTab';
import { LocalDataTab } from './tabs/LocalDataTab';
import { OverviewTab } from './tabs/OverviewTab';
import { ResultsTab } from './tabs/ResultsTab';
import { RunTab } from './tabs/RunTab';
import { ThemeTab } from './tabs/ThemeTab';
import { ThemeProvider } from './theme/ThemeProvider';

type TabKey = 'overview' | 'run' | 'results' | 'charts' | 'data' | 'api' | 'theme';

export default function ModuleUI(props: ModuleProps) {
  const hosted = props.onExecute !== undefined;
  const services = useMemo(() => createServices(hosted), [hosted]);
  return (
    <ThemeProvider hosted={hosted}>
      <Announcer>
        <Page {...props} services={services} />
      </Announcer>
    </ThemeProvider>
  );
}

function Page({ services, ...props }: ModuleProps & { services: Services }) {
  const { session, client, connection } = services;
  const connected = useStore(connection.state);
  const [tab, setTab] = useState<TabKey>('overview');
  const [own, setOwn] = useState<unknown>(null);
  const form = useForm(props.input, props.onInputChange);
  const runner = useMemo(() => chooseRunner(services, props.onExecute), [services, props.onExecute, connected.kind]);
  const source = useMemo(() => chooseSource(services, props.hostContext), [services, props.hostContext]);
  const run = useRun(runner, useCallback(() => session.touch(), [session]));
  useSignedInConnection(services);

  const given = own ?? props.result;
  const results = useMemo<MotifResults | null>(() => readResults(given), [given]);
  const goTo = (key: TabKey) => () => setTab(key);
  const tryExample = () => {
    form.replace(exampleValues(form.fields));
    setTab('run');
  };
  const showResults = () => {
    setTab('results');
    requestAnimationFrame(() => document.querySelector<HTMLElement>('.m-root [role="tab"][aria-selected="true"]')?.focus());
  };

  const panels: Array<{ key: TabKey; label: string; children: React.ReactNode }> = [
    { key: 'overview', label: 'Overview', children: <OverviewTab onStart={goTo('run')} onExample={tryExample} /> },
    {
      key: 'run',
      label: 'Run',
      children: <RunTab form={form} run={run} runner={runner} onResults={setOwn} onShowResults={showResults} />,
    },
    { key: 'results', label: 'Results', children: <ResultsTab results={results} onStart={goTo('run')} /> },
    { key: 'charts', label: 'Charts', children: <ChartsTab results={results} onStart={goTo('run')} /> },
    { key: 'data', label: 'Local data', children: <LocalDataTab source={source} form={form} onStart={goTo('run')} /> },
    { key: 'api', label: 'API', children: <ApiTab services={services} parameters={form.parameters} /> },
    { key: 'theme', label: 'Theme', children: <ThemeTab hosted={services.hosted} /> },
  ];

  return (
    <main className="m-page">
      <header className="m-header">
        <h1>Anchor motif explorer</h1>
        <p>{moduleDescription}</p>
      </header>
      {!services.hosted && (
        <>
          <SessionNotice session={session} />
          <Unreachable connection={connection} />
          <RetryNotice activity={client.activity} />
        </>
      )}
      {given != null && !results && (
        <Notice tone="danger" title="The results cannot be shown">
          <p>The answer does not have the form this module declares. Check that module and page are of the same version.</p>
        </Notice>
      )}
      {props.error && (
        <Notice tone="danger" title="The platform reported an error">
          <p>{props.error.message}</p>
        </Notice>
      )}
      <Tabs activeKey={tab} onChange={(key) => setTab(key as TabKey)} items={panels} animated={false} />
    </main>
  );
}

/** Alone, the page asks who it is talking to, again after every sign-in, and keeps a session in use alive. */
function useSignedInConnection({ hosted, session, connection }: Services): void {
  const { phase } = useStore(session.state);
  const signedIn = phase === 'key' || phase === 'bearer' || phase === 'ending';
  useEffect(() => {
    const first = connection.state.get().kind === 'checking';
    if (!hosted && (first || signedIn)) void connection.probe();
  }, [hosted, connection, signedIn]);

  useEffect(() => {
    if (hosted) return;
    const touch = () => session.touch();
    window.addEventListener('pointerdown', touch);
    window.addEventListener('keydown', touch);
    return () => {
      window.removeEventListener('pointerdown', touch);
      window.removeEventListener('keydown', touch);
    };
  }, [hosted, session]);
}
