import { createContext, useCallback, useContext, useState, type ReactNode } from 'react';

type Urgency = 'polite' | 'assertive';
type Announce = (text: string, urgency?: Urgency) => void;

const AnnouncerContext = createContext<Announce>(() => undefined);

/** Speak a change to people who cannot see it. */
export const useAnnounce = (): Announce => useContext(AnnouncerContext);

/** Two live regions that are always in the page, so that screen readers have noticed them before they speak. */
export function Announcer({ children }: { children: ReactNode }) {
  const [said, setSaid] = useState({ polite: '', assertive: '' });
  const announce = useCallback<Announce>((text, urgency = 'polite') => {
    setSaid((before) => ({ ...before, [urgency]: text }));
  }, []);
  return (
    <AnnouncerContext.Provider value={announce}>
      {children}
      <div className="m-offscreen" role="status" aria-live="polite" data-testid="announcements">
        {said.polite}
      </div>
      <div className="m-offscreen" role="alert" aria-live="assertive">
        {said.assertive}
      </div>
    </AnnouncerContext.Provider>
  );
}
