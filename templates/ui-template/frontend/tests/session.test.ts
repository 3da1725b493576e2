import { beforeEach, describe, expect, it, vi } from 'vitest';
import { leadMs, Session } from '../src/session/session';

const tokens = (name: string, lifetime = 600) => ({ access_token: name, refresh_token: `refresh-${name}`, expires_in: lifetime });
const ok = (body: unknown) => Promise.resolve(new Response(JSON.stringify(body), { status: 200 }));
const refused = (status: number) => Promise.resolve(new Response('{}', { status }));
let fetched: ReturnType<typeof vi.fn<typeof fetch>>;
let session: Session;

beforeEach(async () => {
  vi.useFakeTimers();
  fetched = vi.fn<typeof fetch>().mockImplementationOnce(() => ok(tokens('first')));
  vi.stubGlobal('fetch', fetched);
  session = new Session();
  await session.signIn('ada@example.org', 'secret');
});

const phase = () => session.state.get().phase;

describe('a session', () => {
  it('sends its token and forgets it on sign-out', async () => {
    expect(session.headers()).toEqual({ Authorization: 'Bearer first' });
    fetched.mockImplementationOnce(() => ok({ refreshSessionsRevoked: true }));
    await session.signOut();
    expect(session.headers()).toEqual({});
    expect(fetched.mock.lastCall?.[0]).toBe('/v1/auth/logout');
  });

  it('is renewed before it ends while someone is at work', async () => {
    fetched.mockImplementationOnce(() => ok(tokens('second')));
    session.touch();
    await vi.advanceTimersByTimeAsync(600_000 - leadMs(600_000));
    expect(session.headers()).toEqual({ Authorization: 'Bearer second' });
    expect(phase()).toBe('bearer');
  });

  it('warns someone who has been away, and stays when told so', async () => {
    await vi.advanceTimersByTimeAsync(600_000 - leadMs(600_000));
    expect(phase()).toBe('ending');
    fetched.mockImplementationOnce(() => ok(tokens('second')));
    expect(await session.renew()).toBe(true);
    expect(phase()).toBe('bearer');
  });

  it('ends when nobody answers the warning', async () => {
    await vi.advanceTimersByTimeAsync(600_000);
    expect(session.state.get()).toMatchObject({ phase: 'expired', email: 'ada@example.org' });
    expect(session.headers()).toEqual({});
  });

  it('ends when the renewal is refused, but not when the server is merely away', async () => {
    fetched.mockImplementationOnce(() => refused(503));
    expect(await session.renew()).toBe(false);
    expect(phase()).toBe('ending');
    fetched.mockImplementationOnce(() => refused(401));
    expect(await session.renew()).toBe(false);
    expect(phase()).toBe('expired');
  });

  it('does not forget who it was when later calls are refused as well', async () => {
    await vi.advanceTimersByTimeAsync(600_000);
    expect(await session.renew()).toBe(false);
    expect(session.state.get()).toMatchObject({ phase: 'expired', email: 'ada@example.org' });
  });

  it('renews once for calls that fail together', async () => {
    fetched.mockImplementation(() => ok(tokens('second')));
    await Promise.all([session.renew(), session.renew(), session.renew()]);
    expect(fetched).toHaveBeenCalledTimes(2);
  });

  it('lets a waiting run go on after signing in again', async () => {
    await vi.advanceTimersByTimeAsync(600_000);
    const waiting = session.untilSignedIn(new AbortController().signal);
    fetched.mockImplementationOnce(() => ok(tokens('third')));
    await session.signIn('ada@example.org', 'secret');
    await expect(waiting).resolves.toBeUndefined();
  });
});

it('renews short sessions in their last quarter and long ones two minutes before the end', () => {
  expect(leadMs(40_000)).toBe(10_000);
  expect(leadMs(3_600_000)).toBe(120_000);
});

it('explains a second factor instead of failing silently', async () => {
  fetched.mockImplementationOnce(() => ok({ challenge: 'MFA_REQUIRED', session: 's' }));
  await expect(new Session().signIn('a@b.c', 'x')).rejects.toThrow(/MFA_REQUIRED.*API key/);
});
