import { Radio, Select } from 'antd';
import { useState } from 'react';
import { HeatMap } from '../charts/HeatMap';
import { LengthBars } from '../charts/LengthBars';
import { SequenceLogo, type LogoScale } from '../charts/SequenceLogo';
import { shortAllele, type AlleleSummary, type MotifResults } from '../results';
import { NoResults } from '../shared/NoResults';
import { ScrollTable } from '../shared/ScrollTable';
import { CHEMISTRIES, chemistryResidues } from '../theme/palettes';
import { useTheme } from '../theme/ThemeProvider';

export function ChartsTab({ results, onStart }: { results: MotifResults | null; onStart(): void }) {
  const [chosen, setChosen] = useState<string | null>(null);
  const [scale, setScale] = useState<LogoScale>('share');
  if (!results) return <NoResults onStart={onStart} />;
  const allele = results.alleles.find((entry) => entry.allele === chosen) ?? mostFitting(results.alleles);
  const logo = results.logos.find((entry) => entry.allele === allele?.allele);
  return (
    <>
      <section className="m-card" aria-labelledby="charts-motif">
        <div className="m-heading">
          <h2 id="charts-motif">Motifs</h2>
          <Radio.Group
            aria-label="Letter height"
            value={scale}
            onChange={(event) => setScale(event.target.value as LogoScale)}
            options={[
              { value: 'share', label: 'Share of peptides' },
              { value: 'information', label: 'Information' },
            ]}
          />
          <label htmlFor="chart-allele" className="m-inline-label">
            Allele
            <Select
              id="chart-allele"
              value={allele?.allele}
              onChange={setChosen}
              popupMatchSelectWidth={false}
              options={results.alleles.map((entry) => ({
                value: entry.allele,
                label: `${shortAllele(entry.allele)} (${entry.strong + entry.possible})`,
              }))}
            />
          </label>
        </div>
        <div className="m-motif">
          {logo ? <SequenceLogo logo={logo} scale={scale} /> : <p>No peptide fits {allele && shortAllele(allele.allele)}, so there is no motif to draw.</p>}
          {allele && <Published allele={allele} />}
        </div>
        <ChemistryKey />
      </section>
      <div className="m-columns">
        <section className="m-card" aria-label="Heat map">
          <HeatMap results={results} />
        </section>
        <section className="m-card" aria-label="Lengths">
          <LengthBars results={results} />
        </section>
      </div>
    </>
  );
}

const mostFitting = (alleles: AlleleSummary[]): AlleleSummary | undefined =>
  [...alleles].sort((a, b) => b.strong + b.possible - (a.strong + a.possible))[0];

function Published({ allele }: { allele: AlleleSummary }) {
  return (
    <div className="m-published">
      <h3>Published anchors of {shortAllele(allele.allele)}</h3>
      <ScrollTable label={`Published anchors of ${shortAllele(allele.allele)}`} columns={['Position', 'Preferred', 'Tolerated', 'Disfavoured']}>
        {allele.anchors.map((anchor) => (
          <tr key={anchor.position}>
            <th scope="row">
              {anchor.position} <span className="m-muted">{anchor.primary ? 'main' : 'secondary'}</span>
            </th>
            {[anchor.preferred, anchor.tolerated, anchor.disfavoured].map((residues, index) => (
              <td key={index} className="m-mono">
                {[...residues].join(' ') || '–'}
              </td>
            ))}
          </tr>
        ))}
      </ScrollTable>
      <p className="m-muted">Source: {allele.reference}</p>
    </div>
  );
}

function ChemistryKey() {
  const { palette } = useTheme();
  return (
    <ul className="m-key" aria-label="Letter colours">
      {CHEMISTRIES.map((kind) => (
        <li key={kind} style={{ color: palette.residues[kind] }}>
          <strong className="m-mono">{chemistryResidues(kind)}</strong> {kind}
        </li>
      ))}
    </ul>
  );
}
