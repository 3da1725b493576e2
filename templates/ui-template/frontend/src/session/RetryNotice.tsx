import { Button } from 'antd';
import { useEffect } from 'react';
import type { ActivityLog } from '../api/activity';
import { attemptText } from '../api/http';
import { useAnnounce } from '../shared/Announcer';
import { Notice } from '../shared/Notice';
import { useStore } from '../shared/store';
import { clock } from '../shared/time';
import { useNow } from '../shared/useNow';

/** A call that failed and will be tried again: what, why, when, and the choice to hurry or stop. */
export function RetryNotice({ activity }: { activity: ActivityLog }) {
  const waiting = useStore(activity.entries).filter((entry) => entry.retry);
  const now = useNow(waiting.length > 0);
  const announce = useAnnounce();
  const [first] = waiting;
  const spoken = first?.retry ? `Trying again, ${attemptText(first.attempt)}. ${first.retry.reason}` : '';

  useEffect(() => {
    if (spoken) announce(spoken);
  }, [spoken, announce]);

  return waiting.map((entry) =>
    entry.retry ? (
      <Notice
        key={entry.id}
        tone="warning"
        title="A call failed and will be tried again"
        actions={
          <>
            <Button size="small" onClick={entry.retry.now}>
              Try now
            </Button>
            <Button size="small" onClick={entry.retry.stop}>
              Stop trying
            </Button>
          </>
        }
      >
        <p>
          <code>
            {entry.method} {entry.path.split('?')[0]}
          </code>
          : {entry.retry.reason} Next is {attemptText(entry.attempt)}, in {clock(entry.retry.at - now)}.
        </p>
      </Notice>
    ) : null,
  );
}
