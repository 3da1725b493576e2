import { Button, Input, Select, Table, type TableColumnsType } from 'antd';
import { useMemo, useState } from 'react';
import { ScoreStrip } from '../charts/ScoreStrip';
import { BANDS, shortAllele, toCsv, type Band, type MotifResults, type ResultRow } from '../results';
import { BandLabel } from '../shared/BandLabel';
import { NoResults } from '../shared/NoResults';
import { Notice } from '../shared/Notice';
import { percent, plural } from '../shared/numbers';
import { saveText } from '../shared/saveText';

const BAND_ORDER: Record<Band, number> = { strong: 0, possible: 1, unlikely: 2 };

const columns: TableColumnsType<ResultRow> = [
  {
    title: 'Peptide',
    dataIndex: 'sequence',
    rowScope: 'row',
    render: (sequence: string, row) => (
      <>
        <span className="m-mono m-sequence">{sequence}</span>
        {row.name && <span className="m-muted m-name">{row.name}</span>}
      </>
    ),
    sorter: (a, b) => a.sequence.localeCompare(b.sequence),
  },
  { title: 'Best allele', dataIndex: 'best_allele', render: shortAllele, sorter: (a, b) => a.best_allele.localeCompare(b.best_allele) },
  {
    title: 'Motif match',
    dataIndex: 'best_band',
    render: (band: Band) => <BandLabel band={band} />,
    sorter: (a, b) => BAND_ORDER[a.best_band] - BAND_ORDER[b.best_band],
  },
  { title: 'Score', dataIndex: 'best_score', align: 'right', render: (score: number) => <Score score={score} />, sorter: (a, b) => a.best_score - b.best_score },
  {
    title: 'Random as good',
    dataIndex: 'background_percent',
    align: 'right',
    render: percent,
    sorter: (a, b) => a.background_percent - b.background_percent,
  },
  { title: 'Main anchors', dataIndex: 'anchors' },
];

export function ResultsTab({ results, onStart }: { results: MotifResults | null; onStart(): void }) {
  const [search, setSearch] = useState('');
  const [allele, setAllele] = useState('all');
  const [band, setBand] = useState<Band | 'all'>('all');
  const rows = useMemo(() => {
    const wanted = search.trim().toLowerCase();
    return (results?.table ?? []).filter(
      (row) =>
        (allele === 'all' || row.best_allele === allele) &&
        (band === 'all' || row.best_band === band) &&
        `${row.sequence} ${row.name}`.toLowerCase().includes(wanted),
    );
  }, [results, search, allele, band]);

  if (!results) return <NoResults onStart={onStart} />;
  return (
    <>
      <Totals results={results} />
      <section className="m-card" aria-labelledby="results-table">
        <div className="m-heading">
          <h2 id="results-table">Peptides</h2>
          <Button onClick={() => saveText('peptides.csv', toCsv(rows))} disabled={rows.length === 0}>
            Download these {rows.length} as CSV
          </Button>
        </div>
        <div className="m-filters">
          <label>
            Find
            <Input value={search} onChange={(event) => setSearch(event.target.value)} placeholder="sequence or name" allowClear />
          </label>
          <label htmlFor="filter-allele">
            Best allele
            <Select
              id="filter-allele"
              value={allele}
              onChange={setAllele}
              options={[{ value: 'all', label: 'All alleles' }, ...results.alleles.map((entry) => ({ value: entry.allele, label: shortAllele(entry.allele) }))]}
            />
          </label>
          <label htmlFor="filter-band">
            Motif match
            <Select
              id="filter-band"
              value={band}
              onChange={setBand}
              options={[{ value: 'all' as const, label: 'Any' }, ...BANDS.map((value) => ({ value, label: value }))]}
            />
          </label>
        </div>
        <Table<ResultRow>
          columns={columns}
          dataSource={rows}
          rowKey={(row) => `${row.sequence}|${row.name}|${results.table.indexOf(row)}`}
          size="middle"
          scroll={{ x: 760 }}
          pagination={{ pageSize: 15, hideOnSinglePage: true, showSizeChanger: false }}
          locale={{ emptyText: 'No peptide fits these filters.' }}
        />
        <SavedFile results={results} />
      </section>
      <section className="m-card" aria-label="Score plot">
        <ScoreStrip results={results} />
      </section>
    </>
  );
}

function Totals({ results }: { results: MotifResults }) {
  return (
    <dl className="m-totals">
      <div>
        <dt>Peptides</dt>
        <dd>{results.table.length}</dd>
      </div>
      {BANDS.map((band) => (
        <div key={band}>
          <dt>
            <BandLabel band={band} />
          </dt>
          <dd>{results.table.filter((row) => row.best_band === band).length}</dd>
        </div>
      ))}
    </dl>
  );
}

function Score({ score }: { score: number }) {
  return (
    <span className="m-score">
      {score.toFixed(0)}
      <span className="m-score-track" aria-hidden="true">
        <span style={{ inlineSize: `${score}%` }} />
      </span>
    </span>
  );
}

function SavedFile({ results: { csv, run } }: { results: MotifResults }) {
  if (!csv.saved) return <p className="m-muted">No CSV was kept with the run. {csv.reason}</p>;
  return (
    <Notice tone="success" title={`${csv.name} was kept with the run`}>
      <p>
        {plural(csv.rows ?? 0, 'score')}, every peptide with every allele. Run <code>{run.run_id}</code>, file <code>{csv.location}</code>
      </p>
    </Notice>
  );
}
