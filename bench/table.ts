/** Tables in plain text. */

/** A column's heading and side; numbers stand on the right. */
export interface Column {
  readonly heading: string;
  readonly right?: boolean;
}

/** How many columns of a terminal the text takes; nothing here is wider than one column a character. */
function width(text: string): number {
  return [...text].length;
}

function pad(text: string, column: Column, columns: number): string {
  const spaces = " ".repeat(columns - width(text));
  return column.right === true ? spaces + text : text + spaces;
}

/** Lines of a table; a row that is `null` leaves an empty line. */
export function table(columns: readonly Column[], rows: readonly (readonly string[] | null)[]): string {
  const widths = columns.map((column, i) =>
    Math.max(width(column.heading), ...rows.map((row) => width(row?.[i] ?? "")))
  );
  const line = (cells: readonly string[]): string =>
    columns.map((column, i) => pad(cells[i] ?? "", column, widths[i] ?? 0)).join("  ").trimEnd();
  const heading = line(columns.map((column) => column.heading));
  return [heading, ...rows.map((row) => row === null ? "" : line(row))].map((text) => `  ${text}`.trimEnd())
    .join("\n");
}
