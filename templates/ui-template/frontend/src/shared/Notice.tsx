import type { ReactNode } from 'react';

type Tone = 'info' | 'success' | 'warning' | 'danger';

const WORDS: Record<Tone, string> = { info: 'Note', success: 'Done', warning: 'Attention', danger: 'Problem' };

/** A message box. The tone is a word as well as a colour. */
export function Notice({ tone, title, actions, children }: { tone: Tone; title: string; actions?: ReactNode; children?: ReactNode }) {
  return (
    <section className={`m-notice m-notice-${tone}`} aria-label={`${WORDS[tone]}: ${title}`}>
      <p className="m-notice-title">
        <span className="m-notice-word">{WORDS[tone]}</span> <span>{title}</span>
      </p>
      {children && <div className="m-notice-body">{children}</div>}
      {actions && <div className="m-notice-actions">{actions}</div>}
    </section>
  );
}
