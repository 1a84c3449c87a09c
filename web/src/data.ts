// What the file holds: sections of base64 in inert script elements, each a gzip stream.

export interface Column {
  name: string;
  categories: string[] | null; // null: numbers
}

export interface About {
  title: string;
  taxa: number;
  ranks: string[];
  integer_ids: boolean;
  synonyms: number;
  columns: Column[];
  highlight: number[];
  color_by: string | null;
  source: string;
  version: string;
}

export type Section = (name: string) => Promise<Uint8Array>;

function bytesOfBase64(text: string): Uint8Array<ArrayBuffer> {
  const direct = (Uint8Array as unknown as { fromBase64?: (s: string) => Uint8Array<ArrayBuffer> })
    .fromBase64;
  if (direct) return direct(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

export async function gunzip(packed: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Read a section of this document once; its text is dropped. */
export async function section(name: string): Promise<Uint8Array> {
  const element = document.getElementById(`data-${name}`);
  if (!element) throw new Error(`this file has no data "${name}": it is not complete`);
  const packed = bytesOfBase64((element.textContent ?? "").trim());
  element.remove();
  return gunzip(packed);
}

export function about(): About {
  return JSON.parse(document.getElementById("about")?.textContent ?? "{}") as About;
}

/** Whole numbers, 7 bits a byte, the low ones first. */
export function varints(bytes: Uint8Array, count: number): Float64Array {
  const out = new Float64Array(count);
  let at = 0;
  for (let i = 0; i < count; i++) {
    let value = 0;
    let scale = 1;
    let byte = bytes[at++]!;
    while (byte >= 128) {
      value += (byte - 128) * scale;
      scale *= 128;
      byte = bytes[at++]!;
    }
    out[i] = value + byte * scale;
  }
  if (at !== bytes.length) throw new Error("a column of this file is cut short");
  return out;
}

/** Sums of differences, whose signs are in the lowest bit. */
export function deltas(coded: Float64Array): Float64Array {
  let value = 0;
  for (let i = 0; i < coded.length; i++) {
    const code = coded[i]!;
    value += code % 2 ? -(code + 1) / 2 : code / 2;
    coded[i] = value;
  }
  return coded;
}
