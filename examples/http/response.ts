/** Heads of responses; which part of a file a request gets, if any. */

/** What a response tells of a file. */
export interface Meta {
  readonly size: number;
  /** Seconds since 1970. */
  readonly modified: number;
  readonly lastModified: string;
  readonly etag: string;
  readonly type: string;
}

/** What a request says beside its target; null where it says nothing. */
export interface Conditions {
  readonly range: string | null;
  readonly ifRange: string | null;
  readonly ifNoneMatch: string | null;
  readonly ifModifiedSince: string | null;
}

/** What of a file is sent. */
export interface Selection {
  readonly status: 200 | 206 | 304 | 416;
  readonly start: number;
  /** The first byte that is not sent. */
  readonly end: number;
}

const REASONS: Readonly<Record<number, string>> = {
  200: "OK",
  206: "Partial Content",
  301: "Moved Permanently",
  304: "Not Modified",
  400: "Bad Request",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  416: "Range Not Satisfiable",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
};

const TYPES: Readonly<Record<string, string>> = {
  avif: "image/avif",
  css: "text/css; charset=utf-8",
  csv: "text/csv; charset=utf-8",
  gif: "image/gif",
  htm: "text/html; charset=utf-8",
  html: "text/html; charset=utf-8",
  ico: "image/vnd.microsoft.icon",
  jpeg: "image/jpeg",
  jpg: "image/jpeg",
  js: "text/javascript; charset=utf-8",
  json: "application/json",
  md: "text/markdown; charset=utf-8",
  mjs: "text/javascript; charset=utf-8",
  mp3: "audio/mpeg",
  mp4: "video/mp4",
  pdf: "application/pdf",
  png: "image/png",
  svg: "image/svg+xml",
  txt: "text/plain; charset=utf-8",
  wasm: "application/wasm",
  webm: "video/webm",
  webp: "image/webp",
  woff2: "font/woff2",
  xml: "application/xml",
};

/** The type of a file by its name. */
export function typeOf(path: string): string {
  const [, extension = ""] = /\.([^./]+)$/.exec(path) ?? [];
  return TYPES[extension.toLowerCase()] ?? "application/octet-stream";
}

/** A head with its empty line. The status line comes first, a `Date` of `DATE_LENGTH` bytes at `DATE_AT` of the rest. */
export function head(status: number, fields: Readonly<Record<string, string | number>>): string {
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status} ${REASONS[status]}\r\n${lines.join("")}\r\n`;
}

let second = -1;
let dateText = "";

/** The time as heads tell it. */
export function date(now: number): string {
  const current = Math.floor(now / 1000);
  if (current !== second) {
    second = current;
    dateText = new Date(now).toUTCString();
  }
  return dateText;
}

/** A whole response that says no more than its status. */
export function plain(status: number, now: number, fields: Readonly<Record<string, string>> = {}): string {
  const body = `${status} ${REASONS[status]}\n`;
  const all = {
    Date: date(now),
    "Content-Type": "text/plain; charset=utf-8",
    "Content-Length": body.length,
    ...fields,
  };
  return head(status, all) + body;
}

/** The head of a response about a file. */
export function fileHead(
  meta: Meta,
  { status, start, end }: Selection,
  now: number,
  keepAlive: boolean,
): string {
  const { size, type, etag, lastModified } = meta;
  const fields: Record<string, string | number> = {
    Date: date(now),
    ETag: etag,
    "Last-Modified": lastModified,
  };
  if (status !== 304) {
    fields["Content-Length"] = end - start;
    fields["Content-Type"] = type;
    fields["Accept-Ranges"] = "bytes";
  }
  if (status === 206) fields["Content-Range"] = `bytes ${start}-${end - 1}/${size}`;
  if (status === 416) fields["Content-Range"] = `bytes */${size}`;
  if (!keepAlive) fields["Connection"] = "close";
  return head(status, fields);
}

/** Whether one of the tags in a list is the file's; weak ones count, too. */
function lists(tags: string, etag: string): boolean {
  return tags.trim() === "*" || tags.split(",").some((tag) => tag.trim().replace(/^W\//, "") === etag);
}

/** Whether a condition tells that the client has the file already. */
function isKnown(meta: Meta, { ifNoneMatch, ifModifiedSince }: Conditions): boolean {
  if (ifNoneMatch !== null) return lists(ifNoneMatch, meta.etag);
  if (ifModifiedSince === null) return false;
  // A date that is none is no condition: NaN compares as false.
  return meta.modified <= Date.parse(ifModifiedSince) / 1000;
}

/** Which part of the file a request gets. Only a single range is served; several count as none, as the standard allows. */
export function select(meta: Meta, conditions: Conditions): Selection {
  const { size } = meta;
  if (isKnown(meta, conditions)) return { status: 304, start: 0, end: 0 };
  const { range, ifRange } = conditions;
  const whole: Selection = { status: 200, start: 0, end: size };
  if (range === null) return whole;
  if (ifRange !== null && ifRange !== meta.etag && ifRange !== meta.lastModified) return whole;
  const [, first, last] = /^bytes=(\d*)-(\d*)$/i.exec(range.trim()) ?? [];
  if (first === undefined || last === undefined || first + last === "") return whole;
  // "-500" are the last 500 bytes.
  const start = first === "" ? Math.max(0, size - Number(last)) : Number(first);
  const end = first === "" || last === "" ? size : Math.min(Number(last) + 1, size);
  if (first !== "" && last !== "" && Number(last) < Number(first)) return whole;
  return start < end ? { status: 206, start, end } : { status: 416, start: 0, end: 0 };
}
