import { Button } from 'antd';
import { useEffect, useState } from 'react';
import { useAnnounce } from '../shared/Announcer';
import { Notice } from '../shared/Notice';
import { useStore } from '../shared/store';
import { clock } from '../shared/time';
import { useNow } from '../shared/useNow';
import type { Session } from './session';
import { SignIn } from './SignIn';

/** Warns before a session ends, and asks to sign in again when it has. The page behind it stays as it is. */
export function SessionNotice({ session }: { session: Session }) {
  const state = useStore(session.state);
  const now = useNow(state.phase === 'ending');
  const [busy, setBusy] = useState(false);
  const announce = useAnnounce();

  useEffect(() => {
    if (state.phase === 'ending') announce('Your session ends soon.', 'assertive');
    if (state.phase === 'expired') announce(`${state.why} Your input is kept.`, 'assertive');
  }, [state, announce]);

  if (state.phase === 'expired') return <SignIn session={session} email={state.email} why={state.why} />;
  if (state.phase !== 'ending') return null;
  const stay = async () => {
    setBusy(true);
    session.touch();
    await session.renew();
    setBusy(false);
  };
  return (
    <Notice
      tone="warning"
      title={`Your session ends in ${clock(state.expiresAt - now)}`}
      actions={
        <>
          <Button size="small" type="primary" loading={busy} onClick={stay}>
            Stay signed in
          </Button>
          <Button size="small" onClick={() => session.signOut()}>
            Sign out
          </Button>
        </>
      }
    >
      <p>{state.why} Your input is kept either way.</p>
    </Notice>
  );
}
