// Names as bytes, decoded where they are shown; search in one long string of lower-case bytes, which the
// engine scans at a gigabyte a second, so that no index has to travel in the file.

const decoder = new TextDecoder();
const encoder = new TextEncoder();
const bytewise = new TextDecoder("latin1");

/**
 * Text as a string of bytes, in lower case: exact for ASCII. Of other letters one bit is dropped, that
 * of case in Latin-1 (É, é), so that each byte is one character and a search may find a few too many.
 */
export function folded(bytes: Uint8Array): string {
  const lower = bytes.slice();
  for (let i = 0; i < lower.length; i++) {
    const byte = lower[i]!;
    if ((byte >= 65 && byte <= 90) || (byte >= 128 && byte < 160)) lower[i] = byte + 32;
  }
  return bytewise.decode(lower);
}

export class Names {
  readonly start: Uint32Array;
  private text: string | null = null;

  /** Names in UTF-8 with a line feed after each. */
  constructor(
    private readonly bytes: Uint8Array,
    readonly size: number,
  ) {
    this.start = new Uint32Array(size + 1);
    let at = 0;
    for (let i = 0; i < size; i++) {
      const end = bytes.indexOf(10, at);
      if (end < 0) throw new Error("the names of this file are cut short");
      at = end + 1;
      this.start[i + 1] = at;
    }
  }

  get(i: number): string {
    return decoder.decode(this.bytes.subarray(this.start[i]!, this.start[i + 1]! - 1));
  }

  /** Lower-case bytes, with a line feed before the first name too. */
  get haystack(): string {
    this.text ??= `\n${folded(this.bytes)}`;
    return this.text;
  }

  /** Which name a place of the haystack is in. */
  at(place: number): number {
    let low = 0;
    let high = this.size - 1;
    while (low < high) {
      const mid = (low + high + 1) >> 1;
      if (this.start[mid]! + 1 <= place) low = mid;
      else high = mid - 1;
    }
    return low;
  }

  /** Names with a text in them: how well (0 the name itself … 3 inside a word), and which. */
  find(query: string, most: number): Map<number, number> {
    const found = new Map<number, number>();
    const wanted = folded(encoder.encode(query));
    if (wanted === "") return found;
    const text = this.haystack;
    const collect = (needle: string, skip: number, limit: number) => {
      let place = text.indexOf(needle);
      while (place >= 0 && limit-- > 0) {
        const start = place + skip;
        const before = text.charCodeAt(start - 1);
        const after = text.charCodeAt(start + wanted.length);
        const inWord = (before > 96 && before < 123) || before > 127;
        const quality = before === 10 ? (after === 10 ? 0 : 1) : inWord ? 3 : 2;
        const i = this.at(start);
        if (quality < (found.get(i) ?? 4)) found.set(i, quality);
        place = text.indexOf(needle, place + 1);
      }
    };
    // What is named so, what begins so, and then what has it anywhere.
    collect(`\n${wanted}\n`, 1, most);
    collect(`\n${wanted}`, 1, most);
    if (wanted.length >= 3) collect(wanted, 0, most);
    return found;
  }
}

export interface Suggestion {
  row: number;
  by: string; // the synonym by which it was found, or ""
}

const MOST = 20_000;

export class Search {
  constructor(
    private readonly names: Names,
    private readonly synonyms: Names,
    private readonly synonymRow: ArrayLike<number>,
    private readonly leaves: ArrayLike<number>,
    private readonly byId: (key: string) => number,
  ) {}

  suggest(query: string, count: number): Suggestion[] {
    const text = query.trim();
    if (text === "") return [];
    const best = new Map<number, { quality: number; by: string }>();
    for (const [row, quality] of this.names.find(text, MOST)) best.set(row, { quality, by: "" });
    for (const [i, quality] of this.synonyms.find(text, MOST)) {
      const row = this.synonymRow[i]!;
      const known = best.get(row);
      if (!known || quality < known.quality) best.set(row, { quality, by: this.synonyms.get(i) });
    }
    const id = this.byId(text);
    if (id >= 0) best.set(id, { quality: -1, by: "" });
    const rows = [...best.keys()];
    rows.sort(
      (a, b) =>
        best.get(a)!.quality - best.get(b)!.quality || this.leaves[b]! - this.leaves[a]! || a - b,
    );
    return rows.slice(0, count).map((row) => ({ row, by: best.get(row)!.by }));
  }

  /** The taxon of a key: an id, a name or a synonym; −1 if there is none. */
  row(key: string): number {
    const id = this.byId(key.trim());
    if (id >= 0) return id;
    const [first] = this.suggest(key, 1);
    if (!first) return -1;
    const name = first.by || this.names.get(first.row);
    return name.toLowerCase() === key.trim().toLowerCase() ? first.row : -1;
  }

  /** Build what searches need before the first one. */
  prepare(): void {
    this.names.find("\u0001", 1);
    this.synonyms.find("\u0001", 1);
  }
}
