/**
 * A stand-in for the devkit, for walks on a machine without one: the routes this page uses, in memory, on the
 * contracts the devkit keeps. Runs answer with a recorded result; nothing here executes a module.
 */
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export const STANDIN_KEY = 'standin-key-for-tests';
export const STANDIN_LOGIN = { email: 'ada@example.org', password: 'correct horse battery' };

interface Run {
  id: string;
  status: string;
  percent: number;
  message: string;
  watchers: Set<ServerResponse>;
}

const recorded = JSON.parse(readFileSync(new URL('fixtures/output.json', import.meta.url), 'utf8')) as unknown;
const STEPS = ['Reading peptides', 'Scoring HLA-A*02:01', 'Scoring HLA-B*07:02', 'Drawing motifs', 'Writing results', 'Done'];
const FILES: Record<string, string> = {
  'melanoma/run-1.csv': 'peptide,intensity\nNLVPMVATV,812\nGILGFVFTL,77\nELAGIGILTV,5120\nnot a peptide,1\n',
  'melanoma/notes.txt': 'Eluted on Tuesday.\n',
  'peptides.txt': 'KLGGALQAK\nQYDPVAALF\n',
};

export class StandIn {
  private readonly runs = new Map<string, Run>();
  private readonly tokens = new Set<string>();
  private counter = 0;
  private server: Server | null = null;

  async start(): Promise<string> {
    const server = createServer((request, response) => void this.answer(request, response).catch(() => response.destroy()));
    this.server = server;
    await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.server?.closeAllConnections();
    await new Promise((done) => this.server?.close(done) ?? done(null));
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://standin');
    const route = `${request.method} ${url.pathname}`;
    const body = await readJson(request);
    if (route === 'POST /v1/auth/login') {
      const known = body.email === STANDIN_LOGIN.email && body.password === STANDIN_LOGIN.password;
      return known ? send(response, 200, this.issue()) : fail(response, 401, 'CREDENTIALS_INVALID', 'E-mail or password is wrong.');
    }
    if (route === 'POST /v1/auth/refresh') return send(response, 200, this.issue());
    if (!this.admitted(request)) return fail(response, 401, 'AUTHENTICATION_REQUIRED', 'A valid API key or token is needed.');
    const run = this.runs.get(url.pathname.split('/')[3] ?? '');
    const action = url.pathname.split('/')[4];
    if (route === 'GET /v1/auth/me') return send(response, 200, { success: true, data: { role: 'developer' } });
    if (route === 'POST /v1/auth/logout') return send(response, 200, { refreshSessionsRevoked: true });
    if (route === 'GET /v1/modules') return send(response, 200, { items: [], pagination: { page: 1, limit: 500, total: 0 } });
    if (route === 'POST /v1/module-runs') return this.start_run(body, response);
    if (run && request.method === 'GET' && !action) return send(response, 200, document(run));
    if (run && action === 'events') return this.watch(run, response);
    if (run && action === 'result') return send(response, 200, { runId: run.id, status: run.status, success: true, data: recorded });
    if (run && action === 'cancel') return this.cancel(run, response);
    if (route === 'GET /dev/data/roots') return send(response, 200, { roots: [{ id: 'data', label: 'Study data' }] });
    if (route === 'GET /dev/data/list') return send(response, 200, list(url.searchParams.get('path') ?? '', url.searchParams.get('pageToken')));
    if (route === 'GET /dev/data/file') return sendFile(response, FILES[url.searchParams.get('path') ?? '']);
    return fail(response, 404, 'NOT_FOUND', 'There is nothing here.');
  }

  private admitted(request: IncomingMessage): boolean {
    const token = request.headers.authorization?.replace('Bearer ', '') ?? '';
    return request.headers['x-api-key'] === STANDIN_KEY || this.tokens.has(token);
  }

  private issue() {
    const token = `token-${++this.counter}`;
    this.tokens.add(token);
    return { access_token: token, refresh_token: `refresh-${this.counter}`, expires_in: 3600 };
  }

  private start_run(body: Record<string, unknown>, response: ServerResponse): void {
    const parameters = body.parameters as { peptides: Array<{ sequence: string; name?: string }>; resamples?: number };
    const at = parameters.peptides.findIndex((peptide) => peptide.sequence.includes('X'));
    if (at !== -1) {
      const error = { path: `/peptides/${at}/sequence`, message: 'does not match the pattern', expected: 'Another peptide.' };
      return fail(response, 422, 'INPUT_INVALID', 'One input is not accepted.', { errors: [error] });
    }
    const run: Run = { id: `devkit-run-${++this.counter}`, status: 'queued', percent: 0, message: '', watchers: new Set() };
    this.runs.set(run.id, run);
    this.advance(run, 0, (parameters.resamples ?? 200) >= 1000 ? 1200 : 60);
    send(response, 202, document(run));
  }

  private advance(run: Run, step: number, everyMs: number): void {
    setTimeout(() => {
      if (run.status === 'cancelled') return;
      run.status = 'running';
      run.percent = Math.round((100 * step) / (STEPS.length - 1));
      run.message = STEPS[step] ?? '';
      if (step < STEPS.length - 1) {
        tell(run, 'progress', { percent: run.percent, message: run.message });
        tell(run, 'log', { message: `Progress: ${run.percent}%, ${run.message}` });
        this.advance(run, step + 1, everyMs);
      } else finish(run, 'completed');
    }, everyMs).unref();
  }

  private watch(run: Run, response: ServerResponse): void {
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    run.watchers.add(response);
    response.on('close', () => run.watchers.delete(response));
    response.write(`event: state\ndata: ${JSON.stringify({ status: run.status })}\n\n`);
    if (run.status === 'completed' || run.status === 'cancelled') response.end(`event: end\ndata: {"status":"${run.status}"}\n\n`);
  }

  private cancel(run: Run, response: ServerResponse): void {
    finish(run, 'cancelled');
    send(response, 200, document(run));
  }
}

function finish(run: Run, status: string): void {
  run.status = status;
  tell(run, 'end', { status });
  for (const watcher of run.watchers) watcher.end();
}

function tell(run: Run, event: string, data: unknown): void {
  for (const watcher of run.watchers) watcher.write(`id: ${run.percent}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
}

const document = (run: Run) => ({
  runId: run.id,
  status: run.status,
  progress: { percent: run.percent, message: run.message },
  error: null,
});

function list(path: string, pageToken: string | null) {
  const prefix = path ? `${path}/` : '';
  const names = [...new Set(Object.keys(FILES).filter((file) => file.startsWith(prefix)).map((file) => file.slice(prefix.length).split('/')[0] ?? ''))];
  const page = pageToken ? names.slice(1) : names.slice(0, path ? 1 : names.length);
  const entries = page.map((name) => {
    const text = FILES[prefix + name];
    return { name, path: prefix + name, kind: text === undefined ? 'dir' : 'file', sizeBytes: text?.length ?? null, modifiedAt: null };
  });
  return { entries, nextToken: path && !pageToken && names.length > 1 ? 'second' : null };
}

function sendFile(response: ServerResponse, text: string | undefined): void {
  if (text === undefined) return fail(response, 404, 'FILE_NOT_FOUND', 'There is no such file.');
  const total = Buffer.byteLength(text);
  response.writeHead(206, { 'Content-Type': 'text/plain', 'Content-Range': `bytes 0-${total - 1}/${total}` }).end(text);
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
}

function fail(response: ServerResponse, status: number, code: string, message: string, details: unknown = {}): void {
  send(response, status, { success: false, error: { code, message, details }, correlation_id: 'standin' });
}

async function readJson(request: IncomingMessage): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return chunks.length ? (JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>) : {};
}
