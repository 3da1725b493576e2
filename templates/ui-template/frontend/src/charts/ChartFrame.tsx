import type { ReactNode } from 'react';
import { ScrollTable } from '../shared/ScrollTable';

interface Props {
  title: string;
  caption: string;
  /** The same numbers as a table, for those who read rather than see. */
  columns: string[];
  rows: Array<Array<string | number>>;
  children: ReactNode;
}

export function ChartFrame({ title, caption, columns, rows, children }: Props) {
  return (
    <figure className="m-chart">
      <figcaption>
        <h3>{title}</h3>
        <p className="m-muted">{caption}</p>
      </figcaption>
      <div className="m-scroll" tabIndex={0} role="group" aria-label={`${title}, chart`}>
        {children}
      </div>
      <details>
        <summary>Show the numbers of “{title}”</summary>
        <ScrollTable label={`${title}, numbers`} columns={columns}>
          {rows.map((row, index) => (
            <tr key={index}>
              {row.map((cell, at) => (at === 0 ? <th key={at} scope="row">{cell}</th> : <td key={at}>{cell}</td>))}
            </tr>
          ))}
        </ScrollTable>
      </details>
    </figure>
  );
}
