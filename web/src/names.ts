// Names as bytes, decoded where they are shown. Search in one long string of lower-case bytes, with an
// index of where words begin, by their first three characters: it is built here in a moment, and so it
// need not travel in the file.

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

// Classes of bytes: 0 ends a word, 1 … 36 letters and digits, 37 everything else.
const CLASSES = 38;
const CLASS = new Uint8Array(256).fill(37);
CLASS[10] = CLASS[32] = 0;
for (let i = 0; i < 26; i++) CLASS[97 + i] = 1 + i;
for (let i = 0; i < 10; i++) CLASS[48 + i] = 27 + i;

interface WordIndex {
  first: Uint32Array; // where each class of words begins in `at`
  at: Uint32Array; // places of the haystack
}

/** Class of the first three bytes at a place; what follows the end of a word does not count. */
function classAt(text: string, place: number): number {
  const one = CLASS[text.charCodeAt(place)]!;
  const two = one > 0 ? CLASS[text.charCodeAt(place + 1)]! : 0;
  const three = two > 0 ? CLASS[text.charCodeAt(place + 2)]! : 0;
  return (one * CLASSES + two) * CLASSES + three;
}

/** Whether a word, or a name, begins at a place. */
function begins(text: string, place: number): boolean {
  const here = text.charCodeAt(place);
  const before = text.charCodeAt(place - 1);
  if (before === 10) return here !== 10;
  return CLASS[here]! > 0 && (CLASS[before] === 0 || (CLASS[before] === 37 && before < 128));
}

function indexOfWords(text: string): WordIndex {
  const first = new Uint32Array(CLASSES ** 3 + 1);
  for (let place = 1; place < text.length; place++) {
    if (begins(text, place)) first[classAt(text, place) + 1]!++;
  }
  for (let i = 0; i < CLASSES ** 3; i++) first[i + 1]! += first[i]!;
  const next = first.slice();
  const at = new Uint32Array(first[CLASSES ** 3]!);
  for (let place = 1; place < text.length; place++) {
    if (begins(text, place)) at[next[classAt(text, place)]!++] = place;
  }
  return { first, at };
}

export class Names {
  readonly start: Uint32Array;
  private text: string | null = null;
  private words: WordIndex | null = null;

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

  /** Build what searches need before the first one. */
  prepare(): WordIndex {
    this.words ??= indexOfWords(this.haystack);
    return this.words;
  }

  /** Names of which a word begins with a text: 0 the name itself, 1 its beginning, 2 a later word. */
  beginning(query: string, most: number): Map<number, number> {
    const found = new Map<number, number>();
    const wanted = folded(encoder.encode(query));
    if (wanted === "") return found;
    const { first, at } = this.prepare();
    const text = this.haystack;
    const low = classAt(`${wanted}\n`, 0);
    // A text of one or two bytes is the beginning of a range of classes.
    const width = wanted.length === 1 ? CLASSES ** 2 : wanted.length === 2 ? CLASSES : 1;
    const end = first[low + width]!;
    for (let i = first[low]!; i < end; i++) {
      const place = at[i]!;
      if (!text.startsWith(wanted, place)) continue;
      const whole = text.charCodeAt(place + wanted.length) === 10;
      const quality = text.charCodeAt(place - 1) === 10 ? (whole ? 0 : 1) : 2;
      if (found.size >= most && quality > 0) continue;
      const name = this.at(place);
      if (quality < (found.get(name) ?? 3)) found.set(name, quality);
    }
    return found;
  }

  /** Names that have a text anywhere. */
  containing(query: string, most: number): Set<number> {
    const found = new Set<number>();
    const wanted = folded(encoder.encode(query));
    const text = this.haystack;
    let place = text.indexOf(wanted);
    while (wanted !== "" && place >= 0 && found.size < most) {
      found.add(this.at(place));
      place = text.indexOf(wanted, place + 1);
    }
    return found;
  }
}

export interface Suggestion {
  row: number;
  by: string; // the synonym by which it was found, or ""
}

const MOST = 30_000; // names that one search ranks; names that are the text itself always count

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
    for (const [row, quality] of this.names.beginning(text, MOST))
      best.set(row, { quality, by: "" });
    for (const [i, quality] of this.synonyms.beginning(text, MOST)) {
      const row = this.synonymRow[i]!;
      const known = best.get(row);
      if (!known || quality < known.quality) best.set(row, { quality, by: this.synonyms.get(i) });
    }
    // Parts of words, where no word begins so: this reads all names.
    if (best.size === 0 && text.length >= 3) {
      for (const row of this.names.containing(text, MOST)) best.set(row, { quality: 3, by: "" });
      for (const i of this.synonyms.containing(text, MOST)) {
        const row = this.synonymRow[i]!;
        if (!best.has(row)) best.set(row, { quality: 3, by: this.synonyms.get(i) });
      }
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
    this.names.prepare();
    this.synonyms.prepare();
  }
}
