import { Button } from 'antd';

export function NoResults({ onStart }: { onStart(): void }) {
  return (
    <section className="m-card m-empty">
      <h2>No results yet</h2>
      <p>Run the module with some peptides; what it finds appears here.</p>
      <Button type="primary" onClick={onStart}>
        Go to the form
      </Button>
    </section>
  );
}
