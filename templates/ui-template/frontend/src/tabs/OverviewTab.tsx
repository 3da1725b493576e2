import { Button } from 'antd';
import { fieldsOf } from '../form/schema';
import { inputSchema, moduleVersion } from '../manifest';
import { BANDS } from '../results';
import { BandLabel, BAND_MEANING } from '../shared/BandLabel';

const fields = fieldsOf(inputSchema);

export function OverviewTab({ onStart, onExample }: { onStart(): void; onExample(): void }) {
  return (
    <div className="m-columns">
      <div>
        <section className="m-card" aria-labelledby="overview-what">
          <h2 id="overview-what">Which peptides fit which HLA alleles?</h2>
          <p>
            Paste peptides from an immunopeptidomics run, choose class I alleles, and see for every pair whether the peptide
            carries the residues that allele is known to hold on to.
          </p>
          <ol className="m-steps">
            <li>
              <strong>Give peptides</strong> of 8 to 11 residues, typed, pasted, or taken from a file under Local data.
            </li>
            <li>
              <strong>Run.</strong> Each peptide is scored against each allele; progress is shown as it happens.
            </li>
            <li>
              <strong>Read</strong> the table, the sequence logos and the heat map, and take the CSV with you.
            </li>
          </ol>
          <div className="m-actions">
            <Button type="primary" onClick={onStart}>
              Enter peptides
            </Button>
            <Button onClick={onExample}>Try with published epitopes</Button>
          </div>
        </section>

        <section className="m-card" aria-labelledby="overview-inputs">
          <h2 id="overview-inputs">What goes in</h2>
          <dl className="m-terms">
            {fields.map((field) => (
              <div key={field.key}>
                <dt>
                  {field.label} <span className="m-muted">{field.required ? 'required' : 'optional'}</span>
                </dt>
                <dd>{field.schema.description}</dd>
              </div>
            ))}
          </dl>
          <p className="m-muted">Version {moduleVersion}. The same inputs serve this form, the API and the command line.</p>
        </section>
      </div>

      <section className="m-card" aria-labelledby="overview-read">
        <h2 id="overview-read">How to read a result</h2>
        <dl className="m-terms">
          {BANDS.map((band) => (
            <div key={band}>
              <dt>
                <BandLabel band={band} />
              </dt>
              <dd>{BAND_MEANING[band]}</dd>
            </div>
          ))}
        </dl>
        <p>
          The <strong>score</strong> is the share of the points a perfect peptide would earn: main anchors weigh three, secondary
          anchors one. <strong>Random peptides as good</strong> is the exact share of random human peptides that would score at
          least as well; the smaller, the more the score says.
        </p>
        <p className="m-callout">
          <strong>What it is not:</strong> an anchor-motif score is not a binding affinity and not a prediction of presentation.
          It tells whether a peptide follows the published motif; each result names the literature its motif comes from.
        </p>
      </section>
    </div>
  );
}
