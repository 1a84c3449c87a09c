// The script of the page, and the module of the notebook's widget: they show the same application.

import { listen } from "./controls";
import {
  type About,
  deltas,
  gunzip,
  about as readAbout,
  type Section,
  section,
  varints,
} from "./data";
import { Names, Search } from "./names";
import { type Data, Page, type Place } from "./page";
import { Tree } from "./tree";

// -------------------------------------------------------------------- what both have

async function readIds(
  about: About,
  section: Section,
): Promise<{ id: (row: number) => string; byId: (key: string) => number }> {
  const bytes = await section("id");
  if (about.integer_ids) {
    const ids = deltas(varints(bytes, about.taxa));
    return {
      id: (row) => String(ids[row]!),
      byId: (key) => (/^-?\d+$/.test(key) ? ids.indexOf(Number(key)) : -1),
    };
  }
  const ids = new Names(bytes, about.taxa);
  return {
    id: (row) => ids.get(row),
    byId: (key) => {
      for (const [row, quality] of ids.beginning(key, ids.size))
        if (quality === 0 && ids.get(row) === key) return row;
      return -1;
    },
  };
}

async function readColumns(about: About, section: Section): Promise<Map<string, Float64Array>> {
  const columns = new Map<string, Float64Array>();
  for (const [i, { name, categories }] of about.columns.entries()) {
    const bytes = await section(`column-${i}`);
    const values = categories
      ? varints(bytes, about.taxa)
      : new Float64Array(bytes.buffer, bytes.byteOffset, about.taxa);
    columns.set(name, values);
  }
  return columns;
}

async function read(about: About, section: Section): Promise<Data> {
  const [up, rank, nameBytes, synonymBytes, synonymRows, ids, columns] = await Promise.all([
    section("up"),
    section("rank"),
    section("name"),
    section("synonym"),
    section("synonym-row"),
    readIds(about, section),
    readColumns(about, section),
  ]);
  const tree = new Tree(varints(up, about.taxa));
  const names = new Names(nameBytes, about.taxa);
  const synonyms = new Names(synonymBytes, about.synonyms);
  const rows = deltas(varints(synonymRows, about.synonyms));
  const search = new Search(names, synonyms, rows, tree.leaves, ids.byId);
  return { about, tree, names, search, rank, id: ids.id, columns };
}

/** Show a tree; `keys` is what has the focus where keys are for the tree. */
function show(place: Place, data: Data, keys: EventTarget): Page {
  const page = new Page(place, data);
  page.mark(data.about.highlight);
  page.restore(place.linked ? location.hash.slice(1) : "");
  page.draw();
  place.host.dataset.ready = performance.now().toFixed(0);
  listen(page, keys);
  // The first search should not wait for the long string that searches scan.
  window.setTimeout(() => {
    data.search.prepare();
    place.host.dataset.searchable = performance.now().toFixed(0);
  }, 50);
  return page;
}

const prefersDark = (): boolean => window.matchMedia("(prefers-color-scheme: dark)").matches;

function complain(root: HTMLElement | ShadowRoot, error: unknown): void {
  const words = error instanceof Error ? error.message : String(error);
  root.textContent = `This tree cannot be shown: ${words}`;
}

// -------------------------------------------------------------------- the page

async function start(root: HTMLElement): Promise<void> {
  const host = document.documentElement;
  host.dataset.theme = prefersDark() ? "dark" : "light";
  const data = await read(readAbout(), section);
  const page = show(
    { host, root, linked: true, embedded: window.parent !== window },
    data,
    document,
  );
  window.addEventListener("hashchange", () => page.restore(location.hash.slice(1)));
  (window as unknown as { page: Page }).page = page; // for tests and for the curious
}

const root = document.getElementById("poincare-taxa-page");
if (root) {
  start(root).catch((error: unknown) => {
    complain(root, error);
    throw error;
  });
}

// -------------------------------------------------------------------- the widget

/** What anywidget gives: traits of the Python object by name, with messages when they change. */
interface Model {
  get(name: "_about"): About;
  get(name: "_sections"): Record<string, DataView<ArrayBuffer>>;
  get(name: "taxon"): number;
  get(name: "highlight"): number[];
  set(name: "taxon" | "highlight", value: number | number[]): void;
  save_changes(): void;
  on(event: string, act: () => void): void;
  off(event: string, act: () => void): void;
}

/** Whether a notebook is dark: JupyterLab and VS Code say so, others follow the system. */
function notebookIsDark(): boolean {
  const { dataset, classList } = document.body;
  if (dataset.jpThemeLight) return dataset.jpThemeLight === "false";
  if (dataset.vscodeThemeKind) return dataset.vscodeThemeKind !== "vscode-light";
  return classList.contains("vscode-dark") || prefersDark();
}

async function render({ model, el }: { model: Model; el: HTMLElement }): Promise<() => void> {
  const host = document.createElement("div");
  host.style.cssText = "position:relative;width:100%;height:100%;min-height:420px";
  host.dataset.theme = notebookIsDark() ? "dark" : "light";
  host.dataset.lmSuppressShortcuts = "true"; // JupyterLab's keys are not for the tree
  el.append(host);
  const shadow = host.attachShadow({ mode: "open" });
  const packed = model.get("_sections");
  const data = await read(model.get("_about"), (name) => {
    const { buffer, byteOffset, byteLength } = packed[name]!;
    return gunzip(new Uint8Array(buffer, byteOffset, byteLength));
  });
  const page = show({ host, root: shadow, linked: false, embedded: true }, data, shadow);
  (host as unknown as { page: Page }).page = page;
  const centre = () => {
    if (model.get("taxon") !== page.selected) page.fly(model.get("taxon"));
  };
  const mark = () => page.mark(model.get("highlight"));
  centre();
  mark();
  model.on("change:taxon", centre);
  model.on("change:highlight", mark);
  page.onSelect = (row) => {
    model.set("taxon", row);
    model.save_changes();
  };
  page.onMark = (rows) => {
    model.set("highlight", rows);
    model.save_changes();
  };
  return () => {
    page.stop();
    model.off("change:taxon", centre);
    model.off("change:highlight", mark);
    host.remove();
  };
}

export default { render };
