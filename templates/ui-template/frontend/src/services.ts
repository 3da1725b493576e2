import { devkitSource, hostSource, type DataSource } from './api/localData';
import { HttpClient } from './api/http';
import type { ModuleProps } from './host';
import { devkitRunner, hostRunner, previewRunner, type Runner } from './run/runners';
import { Connection } from './session/connection';
import { Session } from './session/session';

/** Everything with a life of its own, made once per page. */
export interface Services {
  hosted: boolean;
  session: Session;
  client: HttpClient;
  connection: Connection;
}

export function createServices(hosted: boolean): Services {
  const session = new Session();
  const client = new HttpClient(session);
  return { hosted, session, client, connection: new Connection(client) };
}

/** In a host the host runs and lists; alone, the devkit does, and a plain preview server at the least runs. */
export function chooseRunner(services: Services, onExecute: ModuleProps['onExecute']): Runner {
  if (onExecute) return hostRunner(onExecute);
  const { client, session, connection } = services;
  return connection.state.get().kind === 'preview' ? previewRunner(client) : devkitRunner(client, session);
}

export function chooseSource(services: Services, context: ModuleProps['hostContext']): DataSource | null {
  if (services.hosted) return context ? hostSource(context) : null;
  return devkitSource(services.client);
}
