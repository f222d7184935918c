/**
 * The fields of one line of comma-separated values, with quotes as Go's encoding/csv reads them: `a,"b,""c"""`.
 * @throws Error with Go's text
 */
export function csvFields(line: string): string[] {
  const fields: string[] = [];
  for (let at = 0; at <= line.length;) {
    const quoted = line[at] === '"';
    const field = (quoted ? /^"((?:[^"]|"")*)"(?=,|$)/ : /^[^,"]*(?=,|$)/).exec(line.slice(at));
    if (!field) throw new Error(quoted ? problemOfQuotes(line, at) : bareQuote(line, at));
    fields.push(quoted ? field[1]!.replaceAll('""', '"') : field[0]);
    at += field[0].length + 1;
  }
  return fields;
}

const place = (at: number): string => `parse error on line 1, column ${at + 1}`;
const bareQuote = (line: string, from: number): string =>
  `${place(line.indexOf('"', from))}: bare " in non-quoted field`;

function problemOfQuotes(line: string, from: number): string {
  const [body] = /"(?:[^"]|"")*"?/.exec(line.slice(from))!;
  return `${place(from + body.length)}: extraneous or missing " in quoted-field`;
}
