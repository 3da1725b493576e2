import type { ReactNode } from 'react';

interface Props {
  /** What a screen reader calls the table. */
  label: string;
  columns: readonly string[];
  /** The rows. */
  children: ReactNode;
}

/** A table that scrolls sideways where it is too wide, with the keyboard as well. */
export function ScrollTable({ label, columns, children }: Props) {
  return (
    <div className="m-scroll" tabIndex={0} role="group" aria-label={label}>
      <table className="m-table">
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column} scope="col">
                {column}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}
