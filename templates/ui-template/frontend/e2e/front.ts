/**
 * What the browser talks to: the built page, and a proxy to the server under test. Faults are made here, so the same
 * walks can be taken in front of the stand-in and in front of a real devkit.
 */
import { readFileSync } from 'node:fs';
import { createServer, request as ask, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

const bundle = readFileSync(new URL('../dist/bundle.standalone.js', import.meta.url));
const PAGE = `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Anchor motif explorer</title><link rel="icon" href="data:,"></head><body style="margin:0"><div id="root"></div><script src="/bundle.js"></script></body></html>`;

interface Alteration {
  path: RegExp;
  change(body: string): string;
}
type Fault = (incoming: IncomingMessage, outgoing: ServerResponse) => boolean;

export class Front {
  readonly seen: string[] = [];
  private readonly target: URL;
  private faults: Fault[] = [];
  private alterations: Alteration[] = [];
  private revoked: string | null = null;
  private lastToken = '';
  private lifetime: number | null = null;
  private holding = false;
  private readonly server = createServer((incoming, outgoing) => this.serve(incoming, outgoing));

  constructor(target: string) {
    this.target = new URL(target);
  }

  async start(): Promise<string> {
    await new Promise<void>((ready) => this.server.listen(0, '127.0.0.1', ready));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/`;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((done) => this.server.close(done));
  }

  heal(): void {
    this.faults = [];
    this.alterations = [];
    this.lifetime = null;
    this.holding = false;
    this.revoked = null;
  }

  /** Take the next calls and never answer them. */
  stall(path: RegExp): () => void {
    let stalls = true;
    this.faults.push((incoming) => stalls && path.test(incoming.url ?? ''));
    return () => {
      stalls = false;
    };
  }

  /** Change what the page sends, so that the server's own rules refuse what the page's would never send. */
  alter(path: RegExp, change: (body: string) => string): void {
    this.alterations.push({ path, change });
  }

  /** Answer the next calls with an error. */
  refuse(path: RegExp, status: number, times: number): void {
    let left = times;
    this.faults.push((incoming, outgoing) => {
      if (left <= 0 || !path.test(incoming.url ?? '')) return false;
      left -= 1;
      outgoing.writeHead(status, { 'Content-Type': 'application/json' });
      outgoing.end(JSON.stringify({ success: false, error: { code: 'UNAVAILABLE', message: 'The server is restarting.' } }));
      return true;
    });
  }

  /** Cut every connection and refuse new ones until the returned function is called, as a restart looks from outside. */
  vanish(): () => void {
    const down: Fault = (incoming) => {
      incoming.socket.destroy();
      return true;
    };
    this.faults.push(down);
    for (const response of this.open) response.destroy();
    return () => {
      this.faults = this.faults.filter((fault) => fault !== down);
    };
  }

  /** Let the next live events stop at the first progress, however soon the run ends: until that connection breaks. */
  holdEvents(): void {
    this.holding = true;
  }

  /** No token handed out so far is accepted any more, nor can it be refreshed. */
  expireSession(): void {
    this.revoked = this.lastToken;
  }

  /** Logins from here on say they last this many seconds. */
  shortenSessions(seconds: number): void {
    this.lifetime = seconds;
  }

  private readonly open = new Set<ServerResponse>();

  /** How many calls of the page have no answer yet. */
  get waiting(): number {
    return this.open.size;
  }

  private serve(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const path = incoming.url ?? '/';
    if (path === '/' ) return void outgoing.writeHead(200, { 'Content-Type': 'text/html' }).end(PAGE);
    if (path === '/bundle.js') return void outgoing.writeHead(200, { 'Content-Type': 'text/javascript' }).end(bundle);
    this.seen.push(`${incoming.method} ${path}`);
    if (this.faults.some((fault) => fault(incoming, outgoing))) return;
    const token = incoming.headers.authorization;
    const refreshing = path.startsWith('/v1/auth/refresh');
    if (this.revoked !== null && (refreshing || token === this.revoked)) {
      outgoing.writeHead(401, { 'Content-Type': 'application/json' });
      return void outgoing.end(JSON.stringify({ success: false, error: { code: 'TOKEN_EXPIRED', message: 'The token has expired.' } }));
    }
    if (token) this.lastToken = token;
    if (path.startsWith('/v1/auth/login')) this.revoked = null;
    this.open.add(outgoing);
    outgoing.on('close', () => this.open.delete(outgoing));
    this.forward(incoming, outgoing, this.lifetime !== null && /\/auth\/(login|refresh)/.test(path));
  }

  private forward(incoming: IncomingMessage, outgoing: ServerResponse, rewrite: boolean): void {
    const { hostname, port } = this.target;
    const headers = { ...incoming.headers, host: this.target.host, ...(rewrite ? { 'accept-encoding': 'identity' } : {}) };
    const onward = ask({ hostname, port, path: incoming.url, method: incoming.method, headers }, (answer) => {
      if (!rewrite) {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
        if (this.holding && /\/events$/.test(incoming.url ?? '')) {
          this.holding = false;
          passUntilProgress(answer, outgoing);
        } else answer.pipe(outgoing);
        // A server that dies in the middle of an answer must look from here as it does from a browser.
        answer.on('close', () => answer.complete || outgoing.destroy());
        return;
      }
      let text = '';
      answer.on('data', (chunk: Buffer) => (text += chunk.toString()));
      answer.on('end', () => {
        const changed = text.replaceAll(/"expires_in":\s*\d+/g, `"expires_in":${this.lifetime}`);
        outgoing.writeHead(answer.statusCode ?? 502, { 'Content-Type': 'application/json' }).end(changed);
      });
    });
    onward.on('error', () => outgoing.destroy());
    outgoing.on('close', () => onward.destroy());
    const altered = this.alterations.find(({ path }) => path.test(incoming.url ?? ''));
    if (!altered || incoming.method !== 'POST') return void incoming.pipe(onward);
    let body = '';
    incoming.on('data', (chunk: Buffer) => (body += chunk.toString()));
    incoming.on('end', () => {
      const sent = Buffer.from(altered.change(body));
      onward.setHeader('Content-Length', sent.length);
      onward.end(sent);
    });
  }
}

function passUntilProgress(answer: IncomingMessage, outgoing: ServerResponse): void {
  let told = '';
  let passed = 0;
  let isHeld = false;
  answer.setEncoding('utf8');
  answer.on('data', (chunk: string) => {
    if (isHeld) return;
    told += chunk;
    const progress = /event: progress\n(?:.+\n)+\n/.exec(told);
    isHeld = progress !== null;
    const end = progress ? progress.index + progress[0].length : told.length;
    outgoing.write(told.slice(passed, end));
    passed = end;
  });
  answer.on('end', () => isHeld || outgoing.end());
}
