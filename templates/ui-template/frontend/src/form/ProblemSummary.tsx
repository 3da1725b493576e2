import { useEffect, useRef } from 'react';
import { count, type Placed } from './problems';
import { controlId } from './SchemaField';
import type { Field } from './schema';

/** After a refused submit the focus comes here; each entry leads to its field. */
export function ProblemSummary({ fields, problems, attempt }: { fields: Field[]; problems: Placed; attempt: number }) {
  const heading = useRef<HTMLHeadingElement>(null);
  const total = count(problems);

  useEffect(() => {
    if (attempt > 0) heading.current?.focus();
  }, [attempt]);

  if (attempt === 0 || total === 0) return null;
  return (
    <section className="m-notice m-notice-danger" aria-labelledby="problem-summary">
      <h3 id="problem-summary" ref={heading} tabIndex={-1}>
        {total === 1 ? 'One thing needs your attention' : `${total} things need your attention`}
      </h3>
      <ul>
        {fields
          .filter((field) => problems.fields[field.key])
          .map((field) => (
            <li key={field.key}>
              <a href={`#${controlId(field.key)}`} onClick={(event) => lead(event, field.key)}>
                {field.label}: {problems.fields[field.key]?.[0]?.message}
              </a>
            </li>
          ))}
        {problems.elsewhere.map((problem, index) => (
          <li key={index}>{problem.message}</li>
        ))}
      </ul>
    </section>
  );
}

function lead(event: React.MouseEvent, key: string): void {
  event.preventDefault();
  document.getElementById(controlId(key))?.focus();
}
