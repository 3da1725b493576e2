import { Radio } from 'antd';
import { ScrollTable } from '../shared/ScrollTable';
import { contrastRatio, type Palette } from '../theme/palettes';
import { useTheme, type Choice } from '../theme/ThemeProvider';

const CHOICES: Array<{ value: Choice; label: string }> = [
  { value: 'auto', label: 'Automatic' },
  { value: 'light', label: 'Light' },
  { value: 'dark', label: 'Dark' },
  { value: 'contrast', label: 'High contrast' },
];

type Named = { [Key in keyof Palette]: Palette[Key] extends string ? Key : never }[keyof Palette];

const SAMPLES: Array<{ colour: Named; on: Named; use: string; atLeast: number }> = [
  { colour: 'text', on: 'surface', use: 'Text', atLeast: 4.5 },
  { colour: 'muted', on: 'surface', use: 'Secondary text', atLeast: 4.5 },
  { colour: 'muted', on: 'page', use: 'Secondary text on the page', atLeast: 4.5 },
  { colour: 'accent', on: 'surface', use: 'Links and current tab', atLeast: 4.5 },
  { colour: 'onAccent', on: 'accent', use: 'Main buttons', atLeast: 4.5 },
  { colour: 'strong', on: 'surface', use: 'Strong match', atLeast: 4.5 },
  { colour: 'possible', on: 'surface', use: 'Possible match', atLeast: 4.5 },
  { colour: 'unlikely', on: 'surface', use: 'Unlikely match', atLeast: 4.5 },
  { colour: 'danger', on: 'surface', use: 'Errors', atLeast: 4.5 },
  { colour: 'outline', on: 'surface', use: 'Borders of controls', atLeast: 3 },
  { colour: 'focus', on: 'page', use: 'Focus outline', atLeast: 3 },
];

export function ThemeTab({ hosted }: { hosted: boolean }) {
  const { choice, palette, choose } = useTheme();
  return (
    <div className="m-columns">
      <section className="m-card" aria-labelledby="theme-choose">
        <h2 id="theme-choose">Appearance</h2>
        <Radio.Group
          className="m-radios"
          aria-labelledby="theme-choose"
          value={choice}
          options={CHOICES}
          onChange={(event) => choose(event.target.value as Choice)}
        />
        <p className="m-muted">
          Automatic follows {hosted ? 'the page this module is shown in' : 'your system’s light, dark or contrast setting'}. Motion is
          reduced when your system asks for it.
        </p>
      </section>
      <section className="m-card" aria-labelledby="theme-contrast">
        <h2 id="theme-contrast">Colours and their contrast</h2>
        <ScrollTable label="Colours and their contrast" columns={['Use', 'Sample', 'Ratio', 'Needed']}>
          {SAMPLES.map(({ colour, on, use, atLeast }) => (
            <tr key={use}>
              <th scope="row">{use}</th>
              <td>
                <span className="m-swatch" aria-hidden="true" style={{ background: palette[on], borderColor: palette[colour] }}>
                  <span style={{ background: palette[colour] }} />
                </span>
                <code>{palette[colour]}</code>
              </td>
              <td>{contrastRatio(palette[colour], palette[on]).toFixed(1)} : 1</td>
              <td>{atLeast} : 1</td>
            </tr>
          ))}
        </ScrollTable>
      </section>
    </div>
  );
}
