// Pointer, touch, keys, search and panel: what a reader does, as calls of the application.

import { made, number } from "./dom";
import type { Point } from "./mobius";
import type { Suggestion } from "./names";
import type { Page } from "./page";

// A finger is wide and never quite still.
const SLOP = { touch: 10, pen: 5, mouse: 3 }; // pixels up to which a pointer rests
const REACH = { touch: 22, pen: 14, mouse: 12 }; // pixels around a taxon that belong to it
const NARROW = 820; // pixels of width, as in the style: up to it the panel lies over the disk
const TWICE = 350; // milliseconds between two taps that are one double tap

/** Listen to everything; `keys` is what has the focus where keys are for the tree. */
export function listen(page: Page, keys: EventTarget): void {
  listenToPointer(page);
  listenToKeys(page, keys);
  listenToSearch(page);
  listenToPanel(page);
}

interface Held {
  at: Point; // where the disk has followed it to
  x: number; // pixels of the window where it came down
  y: number;
  moving: boolean;
}

function listenToPointer(page: Page): void {
  const { canvas, view } = page;
  const tip = page.element("tip");
  const held = new Map<number, Held>();
  let several = false; // fingers, at some time since the first of them came down
  let tap = { time: Number.NEGATIVE_INFINITY, x: 0, y: 0 };
  const kind = (event: PointerEvent) => event.pointerType as keyof typeof SLOP;
  const pair = () => {
    const [a, b] = [...held.values()].map(({ at }) => at);
    return {
      middle: { x: (a!.x + b!.x) / 2, y: (a!.y + b!.y) / 2 },
      apart: Math.hypot(a!.x - b!.x, a!.y - b!.y),
    };
  };
  // Two fingers: the point between them goes with them, and as they part it comes nearer. Each has an
  // event of its own, so that their way is taken once for a frame of the screen.
  let before: ReturnType<typeof pair> | null = null;
  const pinch = () => {
    if (!before) return;
    const now = pair();
    view.drag(before.middle, now.middle);
    const nearer = before.apart > 0 && now.apart > 0 ? 2 * Math.log(now.apart / before.apart) : 0;
    if (nearer > 0) view.approach(now.middle, nearer);
    else view.retreat(-nearer);
    before = null;
    page.change();
  };
  canvas.addEventListener("pointerdown", (event) => {
    page.stop();
    pinch();
    canvas.setPointerCapture(event.pointerId);
    const { clientX: x, clientY: y } = event;
    held.set(event.pointerId, { at: page.point(event), x, y, moving: false });
    several = held.size > 1;
    tip.hidden = true;
  });
  canvas.addEventListener("pointermove", (event) => {
    const p = page.point(event);
    const finger = held.get(event.pointerId);
    if (!finger) {
      showTip(page, tip, event, p);
      return;
    }
    const way = Math.hypot(event.clientX - finger.x, event.clientY - finger.y);
    finger.moving ||= several || way > (SLOP[kind(event)] ?? SLOP.mouse);
    if (!finger.moving) return;
    if (held.size === 2) {
      if (!before) requestAnimationFrame(pinch);
      before ??= pair();
      finger.at = p;
    } else {
      view.drag(finger.at, p);
      finger.at = p;
      canvas.classList.add("moving");
    }
    page.change();
    page.moved();
  });
  const up = (event: PointerEvent) => {
    const finger = held.get(event.pointerId);
    pinch();
    held.delete(event.pointerId);
    canvas.classList.remove("moving");
    if (!finger || finger.moving || several || event.type !== "pointerup") return;
    canvas.focus({ preventScroll: true });
    const { clientX: x, clientY: y, timeStamp: time } = event;
    const found = page.at(page.point(event), REACH[kind(event)] ?? REACH.mouse);
    const again = time - tap.time < TWICE && Math.hypot(x - tap.x, y - tap.y) < 2 * REACH.touch;
    tap = event.pointerType === "touch" && !again ? { time, x, y } : { time: -TWICE, x, y };
    if (!found) return;
    if (event.pointerType === "touch" && again) page.fly(found.row);
    else page.select(found.row);
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => {
    tip.hidden = true;
  });
  // Not every browser makes a double click of two taps: `up` counts those of fingers.
  canvas.addEventListener("touchend", (event) => {
    if (event.cancelable) event.preventDefault();
  });
  canvas.addEventListener("dblclick", (event) => {
    const found = page.at(page.point(event), 16);
    if (found) page.fly(found.row);
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (page.place.embedded && !canvas.matches(":focus")) return;
      event.preventDefault();
      page.stop();
      tip.hidden = true;
      const scale = event.deltaMode === 1 ? 30 : 1;
      const way = Math.max(-0.6, Math.min(0.6, (-event.deltaY * scale) / 250));
      if (way > 0) view.approach(page.point(event), way);
      else view.retreat(-way);
      page.change();
      page.moved();
    },
    { passive: false },
  );
}

function showTip(page: Page, tip: HTMLElement, event: PointerEvent, p: Point): void {
  const found = page.at(p);
  tip.hidden = !found;
  if (!found) return;
  const { tree } = page;
  const { row, wedge } = found;
  if (wedge && wedge.clades > 1) {
    const taxa = wedge.to - wedge.from;
    tip.replaceChildren(
      made("b", `${number(taxa)} taxa of ${page.name(row)}`),
      made("small", `from ${page.name(wedge.from)}, in ${number(wedge.clades)} clades`),
    );
  } else {
    const taxa = tree.end[row]! - row - 1;
    const above = tree
      .lineage(row)
      .slice(0, -1)
      .map((each) => page.name(each));
    const lineage = above.length > 6 ? ["…", ...above.slice(-6)] : above;
    tip.replaceChildren(
      made("b", page.name(row)),
      made(
        "small",
        `${page.rankName(row)}${taxa > 0 ? ` · ${number(taxa)} taxa` : ""} · id ${page.id(row)}`,
      ),
      made("small", lineage.join(" › ")),
    );
    for (const text of page.values(row)) tip.append(made("small", text));
  }
  const box = page.canvas.getBoundingClientRect();
  const x = event.clientX - box.left;
  const y = event.clientY - box.top;
  tip.style.left = `${x + 16 + tip.offsetWidth > box.width ? Math.max(4, x - 14 - tip.offsetWidth) : x + 16}px`;
  tip.style.top = `${y + 16 + tip.offsetHeight > box.height ? Math.max(4, y - 12 - tip.offsetHeight) : y + 16}px`;
}

function listenToKeys(page: Page, keys: EventTarget): void {
  const { view, tree } = page;
  keys.addEventListener("keydown", (e) => {
    const event = e as KeyboardEvent;
    const inField =
      event.target instanceof HTMLElement && event.target.matches("input, textarea, select");
    if (event.key === "Escape") {
      page.element("tip").hidden = true;
      page.canvas.focus();
    }
    if (inField || event.ctrlKey || event.metaKey || event.altKey) return;
    const onButton = event.target instanceof HTMLButtonElement;
    const row = page.selected;
    const above = tree.parent[row]!;
    const sibling = (way: number) => {
      if (above < 0) return;
      const slot = tree.slotOf(row) + way;
      if (slot >= tree.first[above]! && slot < tree.first[above + 1]!) page.fly(tree.child[slot]!);
    };
    const acts: Record<string, () => void> = {
      "/": () => page.element("search").focus(),
      Home: () => page.fly(0),
      ArrowLeft: () => above >= 0 && page.fly(above),
      ArrowRight: () => !tree.isLeaf(row) && page.fly(tree.child[tree.first[row]!]!),
      ArrowUp: () => sibling(-1),
      ArrowDown: () => sibling(1),
      "+": () => view.approach({ x: 0.6, y: 0 }, 0.4),
      "=": () => view.approach({ x: 0.6, y: 0 }, 0.4),
      "-": () => view.retreat(0.4),
      "[": () => view.turn(-0.1),
      "]": () => view.turn(0.1),
      c: () => page.fold(row),
      C: () => page.fold(row),
    };
    if (event.key === "Enter" && !onButton) acts.Enter = () => page.fly(row);
    const act = acts[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    if ("+=-".includes(event.key)) page.stop();
    act();
    page.change();
    page.moved();
  });
}

function listenToSearch(page: Page): void {
  const input = page.element<HTMLInputElement>("search");
  const list = page.element("suggestions");
  let shown: Suggestion[] = [];
  let chosen = 0;
  const close = () => {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const go = (i: number) => {
    const found = shown[i];
    if (!found) return;
    close();
    input.value = page.name(found.row);
    page.canvas.focus();
    page.fly(found.row);
  };
  const point = (i: number) => {
    chosen = i;
    [...list.children].forEach((item, k) => {
      item.setAttribute("aria-selected", String(k === i));
      if (k === i) {
        input.setAttribute("aria-activedescendant", item.id);
        item.scrollIntoView({ block: "nearest" });
      }
    });
  };
  const look = () => {
    const start = performance.now();
    shown = page.search.suggest(input.value, 12);
    list.dataset.milliseconds = (performance.now() - start).toFixed(1);
    list.replaceChildren();
    shown.forEach(({ row, by }, i) => {
      const item = made("li", page.name(row));
      item.id = `suggestion-${i}`;
      item.setAttribute("role", "option");
      const taxa = page.tree.end[row]! - row - 1;
      const above = page.tree.parent[row]!;
      const facts = [
        ...(by ? [`“${by}”`] : []),
        page.rankName(row),
        ...(taxa > 0 ? [`${number(taxa)} taxa`] : above >= 0 ? [`in ${page.name(above)}`] : []),
      ];
      item.append(made("small", facts.join(" · ")));
      item.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        go(i);
      });
      list.append(item);
    });
    const asked = input.value.trim() !== "";
    if (asked && shown.length === 0) {
      const item = made("li", "no taxon has this in its name, synonyms or id");
      item.className = "none";
      list.append(item);
    }
    list.hidden = !asked;
    input.setAttribute("aria-expanded", String(asked));
    if (shown.length > 0) point(0);
  };
  input.addEventListener("input", look);
  input.addEventListener("focus", () => input.value && look());
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") point(Math.min(chosen + 1, shown.length - 1));
    else if (event.key === "ArrowUp") point(Math.max(chosen - 1, 0));
    else if (event.key === "Enter") go(chosen);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
  });
}

function listenToPanel(page: Page): void {
  const click = (id: string, act: () => void) => page.element(id).addEventListener("click", act);
  const step = (act: () => void) => () => {
    page.stop();
    act();
    page.change();
    page.moved();
  };
  click("home", () => page.fly(0));
  click(
    "in",
    step(() => page.view.approach({ x: 0.6, y: 0 }, 0.5)),
  );
  click(
    "out",
    step(() => page.view.retreat(0.5)),
  );
  // In a narrow window the panel is over the disk when it is open, else beside it unless it is shut.
  const app = page.element("app");
  const tellPanel = () => {
    const open = app.clientWidth <= NARROW ? "open" : "shut";
    const shown = app.classList.contains(open) === (open === "open");
    page.element("panel").setAttribute("aria-expanded", String(shown));
  };
  click("panel", () => {
    app.classList.toggle(app.clientWidth <= NARROW ? "open" : "shut");
    tellPanel();
    page.change();
  });
  click("mark", () => page.markList(page.element<HTMLTextAreaElement>("list").value));
  click("unmark", () => {
    page.element<HTMLTextAreaElement>("list").value = "";
    page.markList("");
  });
  click("svg", () => page.save("svg"));
  click("png", () => page.save("png"));
  click("link", () => {
    history.replaceState(null, "", `#${page.fragment()}`);
    const said = page.element("saved");
    navigator.clipboard?.writeText(location.href).then(
      () => {
        said.textContent = "The address of this view is copied.";
      },
      () => {
        said.textContent = location.href;
      },
    );
  });
  click("theme", () => {
    const { dataset } = page.place.host;
    dataset.theme = dataset.theme === "dark" ? "light" : "dark";
    page.change();
  });
  page
    .element<HTMLSelectElement>("color")
    .addEventListener("change", (event) => page.color((event.target as HTMLSelectElement).value));
  page
    .element<HTMLSelectElement>("weight")
    .addEventListener("change", (event) =>
      page.setWeight(Number((event.target as HTMLSelectElement).value)),
    );
  new ResizeObserver(() => {
    tellPanel();
    page.change();
  }).observe(page.canvas);
}
