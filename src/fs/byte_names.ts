/**
 * Text for names that may be no UTF-8, so that paths can be taken apart and put together as text: a byte that is no part of a
 * character stands in it as half of a surrogate pair, which text from bytes never holds otherwise.
 *
 * @module
 */

const FIRST = 0xdc00;
/** The longest character in bytes. */
const LONGEST = 4;
const LONE = /[\ud800-\udfff]/u;
const ALL_LONE = /[\ud800-\udfff]/gu;

const strict = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });
const encoder = new TextEncoder();

function decoded(bytes: Uint8Array): string | null {
  try {
    return strict.decode(bytes);
  } catch {
    return null;
  }
}

/** Text that {@link bytesOfText} turns into these very bytes. */
export function textOfBytes(bytes: Uint8Array): string {
  const whole = decoded(bytes);
  if (whole !== null) return whole;
  let text = "";
  for (let at = 0; at < bytes.length;) {
    let length = LONGEST;
    let character: string | null = null;
    // The shortest that is one: longer ones hold more than one character.
    for (length = 1; length <= LONGEST && character === null; length++) {
      character = decoded(bytes.subarray(at, at + length));
    }
    text += character ?? String.fromCharCode(FIRST + bytes[at]!);
    at += character === null ? 1 : length - 1;
  }
  return text;
}

/** The path that such text stands for: itself, or bytes where text cannot say it. */
export function bytesOfText(text: string): string | Uint8Array {
  if (!LONE.test(text)) return text;
  const bytes: number[] = [];
  for (const character of text) {
    const code = character.codePointAt(0)!;
    if (LONE.test(character)) bytes.push(code - FIRST);
    else bytes.push(...encoder.encode(character));
  }
  return Uint8Array.from(bytes);
}

/** The text as it is told to people, with replacement characters. */
export function shown(text: string): string {
  return text.replace(ALL_LONE, "\ufffd");
}
