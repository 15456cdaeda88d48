// A histogram by label with a review band that is moved by mouse, touch and keyboard.
//
// Streamlit calls the default function again with every answer of the server. Everything is therefore built
// once for a place on the page and only brought up to date afterwards: an answer that comes during a drag
// neither takes the focus nor moves a handle. The server is told of a move at most every 80 ms, and not again
// before it has answered, so that a slow server gets fewer moves and never a queue of them.

const NS = "http://www.w3.org/2000/svg";
const PAUSE = 80;
// A lost answer must not silence the handles for good.
const PATIENCE = 1000;
const STEP = 0.01;
const KEYS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -50, PageUp: 50 };
const LEFT = 132;
const RIGHT = 20;
const TOP = 72;
const ROW = 56;
const GAP = 10;
const AXIS = 36;
const NAMES = ["T1, review from", "T2, defect from"];

const bands = new WeakMap();

export default function (component) {
  const { data, parentElement } = component;
  if (!data) return;
  let band = bands.get(parentElement);
  if (!band) {
    band = new Band(parentElement);
    bands.set(parentElement, band);
  }
  band.update(component);
}

function made(name, attributes, parent) {
  const element = document.createElementNS(NS, name);
  put(element, attributes);
  if (parent) parent.appendChild(element);
  return element;
}

function put(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
}

function between(from, to, x) {
  // Straight between stops that ascend.
  if (x <= from[0]) return to[0];
  for (let i = 1; i < from.length; i++) {
    if (x <= from[i]) {
      const width = from[i] - from[i - 1];
      return width ? to[i - 1] + ((x - from[i - 1]) / width) * (to[i] - to[i - 1]) : to[i];
    }
  }
  return to[to.length - 1];
}

function snapped(value) {
  return Math.round(value / STEP) * STEP;
}

function rounded(value) {
  // Steps of a hundredth leave dust behind the binary point.
  return Math.round(value * 1e6) / 1e6;
}

class Band {
  constructor(root) {
    this.client = Math.random().toString(36).slice(2);
    this.sent = 0;
    this.waiting = null;
    this.sentAt = 0;
    this.timer = null;
    this.drag = null;
    this.values = [0, 0];
    this.drawn = "";
    this.box = document.createElement("div");
    this.box.className = "band";
    this.svg = made("svg", { role: "group" }, this.box);
    this.patterns = made("defs", {}, this.svg);
    this.rows = made("g", {}, this.svg);
    this.front = made("g", {}, this.svg);
    this.build();
    this.tip = document.createElement("div");
    this.tip.className = "tip";
    this.tip.setAttribute("aria-hidden", "true");
    this.told = document.createElement("div");
    this.told.className = "told";
    this.told.setAttribute("aria-live", "polite");
    this.box.append(this.tip, this.told);
    root.appendChild(this.box);
    this.size = new ResizeObserver(() => this.layout());
    this.size.observe(this.box);
  }

  build() {
    this.strip = made("rect", { class: "strip" }, this.front);
    this.zones = ["PASS", "REVIEW", "DEFECT"].map((name) =>
      made("text", { class: "small strong", "text-anchor": "middle", y: 14, "data-zone": name }, this.front),
    );
    this.references = [0, 1].map(() => made("line", { class: "active" }, this.front));
    this.grab = made("g", { role: "slider", tabindex: 0, "aria-label": "Review band, both thresholds" }, this.front);
    made("rect", { class: "grab", rx: 3 }, this.grab);
    made("rect", { class: "ring", rx: 4 }, this.grab);
    this.handles = NAMES.map((name, which) => {
      const handle = made("g", { class: which ? "handle" : "handle first", role: "slider", tabindex: 0 }, this.front);
      handle.setAttribute("aria-label", name);
      made("rect", { class: "hit" }, handle);
      made("line", { class: "line" }, handle);
      // The shapes of the verdicts that begin here: a triangle for REVIEW, a diamond for DEFECT.
      made("path", { class: "grip", d: which ? "M0,-9 L9,0 L0,9 L-9,0 Z" : "M0,-9 L9,7 L-9,7 Z" }, handle);
      made("rect", { class: "ring", rx: 5 }, handle);
      made("text", { class: "small strong", "text-anchor": which ? "start" : "end" }, handle);
      return handle;
    });
    [...this.handles, this.grab].forEach((element, which) => {
      element.setAttribute("aria-orientation", "horizontal");
      element.addEventListener("pointerdown", (event) => this.begin(event, element, which));
      element.addEventListener("pointermove", (event) => this.follow(event));
      element.addEventListener("pointerup", (event) => this.end(event));
      element.addEventListener("pointercancel", (event) => this.end(event));
      element.addEventListener("keydown", (event) => this.key(event, which));
    });
  }

  update(component) {
    this.component = component;
    this.data = component.data;
    const { seq, client } = this.data.heard;
    if (this.waiting !== null && client === this.client && seq >= this.waiting) this.waiting = null;
    // What the server says of an earlier move than the last would throw the handles back.
    if (!this.drag && this.waiting === null && this.timer === null) this.values = [...this.data.now];
    this.layout();
  }

  layout() {
    if (!this.data) return;
    const width = Math.max(360, this.box.clientWidth);
    const drawn = `${this.data.version}|${width}`;
    this.inner = width - LEFT - RIGHT;
    if (drawn !== this.drawn) {
      this.drawn = drawn;
      this.bottom = TOP + this.data.rows.length * (ROW + GAP);
      put(this.svg, { viewBox: `0 0 ${width} ${this.bottom + AXIS}`, height: this.bottom + AXIS });
      this.svg.setAttribute("aria-label", this.data.words);
      this.paintRows();
      this.paintAxis(width);
    }
    this.place();
  }

  paintRows() {
    this.rows.replaceChildren();
    this.patterns.replaceChildren();
    const bins = this.data.rows.length ? this.data.rows[0].counts.length : 1;
    const each = this.inner / bins;
    this.data.rows.forEach((row, place) => {
      const floor = TOP + place * (ROW + GAP) + ROW;
      const group = made("g", { class: "row", role: "group", tabindex: 0 }, this.rows);
      group.setAttribute(
        "aria-label",
        `${row.name}: ${row.total.toLocaleString("en")} parts. Left and right choose a bar, Enter its pictures.`,
      );
      made("rect", { class: "ring", x: 2, y: floor - ROW, width: LEFT - 8, height: ROW, rx: 4 }, group);
      const fill = this.pattern(place, row);
      made("rect", { x: 8, y: floor - 34, width: 14, height: 14, fill, stroke: row.colour }, group);
      made("text", { class: "strong", x: 28, y: floor - 22 }, group).textContent = row.name;
      made("text", { class: "small", x: 28, y: floor - 6 }, group).textContent = row.total.toLocaleString("en");
      const tall = this.data.log ? (n) => Math.log1p(n) : (n) => n;
      const most = tall(Math.max(1, ...row.counts));
      const cells = [];
      row.counts.forEach((count, bin) => {
        if (!count) return;
        const x = LEFT + bin * each;
        // One part among thousands must still be seen.
        const height = Math.max(3, (tall(count) / most) * (ROW - 6));
        const bar = { x: x + 0.5, y: floor - height, width: Math.max(1, each - 1), height, fill, stroke: row.colour };
        made("rect", { ...bar, "stroke-width": 1 }, group);
        const cell = made("rect", { class: "cell", x, y: floor - ROW, width: each, height: ROW }, group);
        cell.addEventListener("pointermove", (event) => this.hover(event, row, bin));
        cell.addEventListener("pointerleave", () => this.hover(null));
        cell.addEventListener("click", () => this.pick(place, bin));
        cells.push([bin, cell]);
      });
      made("line", { class: "rule", x1: LEFT, x2: LEFT + this.inner, y1: floor + 0.5, y2: floor + 0.5 }, group);
      group.addEventListener("keydown", (event) => this.choose(event, place, cells));
      group.addEventListener("blur", () => cells.forEach(([, cell]) => cell.classList.remove("chosen")));
    });
  }

  pattern(place, row) {
    const id = `fill-${this.client}-${place}`;
    const pattern = made("pattern", { id, width: 6, height: 6, patternUnits: "userSpaceOnUse" }, this.patterns);
    made("rect", { width: 6, height: 6, fill: row.colour, "fill-opacity": row.hatch === "solid" ? 0.8 : 0.25 }, pattern);
    const lines = { diagonal: ["M-1,7 L7,-1", "M-1,1 L1,-1", "M5,7 L7,5"], cross: ["M0,3 L6,3", "M3,0 L3,6"], level: ["M0,3 L6,3"] };
    for (const d of lines[row.hatch] ?? []) {
      made("path", { d, stroke: row.colour, "stroke-width": 1.6, fill: "none" }, pattern);
    }
    return `url(#${id})`;
  }

  paintAxis(width) {
    const axis = made("g", {}, this.rows);
    let free = -Infinity;
    for (const [position, words] of this.data.axis.ticks) {
      const x = LEFT + position * this.inner;
      made("line", { class: "rule", x1: x, x2: x, y1: this.bottom - GAP, y2: this.bottom - GAP + 5 }, axis);
      // Words that would touch the ones before are left out.
      if (x - free < 8 + 7 * words.length) continue;
      made("text", { class: "small", x, y: this.bottom + 10, "text-anchor": "middle" }, axis).textContent = words;
      free = x + 3.5 * words.length;
    }
    const title = made("text", { class: "small", x: LEFT + this.inner / 2, y: this.bottom + 30, "text-anchor": "middle" }, axis);
    title.textContent = this.data.axis.title;
    this.front.parentNode.appendChild(this.front);
  }

  at(strangeness) {
    return LEFT + between(this.data.axis.strangeness, this.data.axis.position, strangeness) * this.inner;
  }

  under(event) {
    const box = this.svg.getBoundingClientRect();
    const scale = box.width ? this.svg.viewBox.baseVal.width / box.width : 1;
    const position = ((event.clientX - box.left) * scale - LEFT) / this.inner;
    return between(this.data.axis.position, this.data.axis.strangeness, Math.min(1, Math.max(0, position)));
  }

  get upper() {
    return this.data.axis.strangeness[this.data.axis.strangeness.length - 1];
  }

  place() {
    const [first, second] = this.values.map((value) => this.at(value));
    const floor = this.bottom - GAP;
    put(this.strip, { x: first, y: 34, width: Math.max(0, second - first), height: Math.max(0, floor - 34) });
    // Wide enough for a finger, however narrow the band is, and above the grips of both thresholds.
    const reach = Math.max(44, second - first);
    const grab = { x: (first + second - reach) / 2, y: 20, width: reach, height: 14 };
    this.grab.querySelectorAll("rect").forEach((rect) => put(rect, grab));
    this.references.forEach((line, which) => {
      const x = this.at(this.data.active[which]);
      put(line, { x1: x, x2: x, y1: TOP - 4, y2: floor });
    });
    const edges = [LEFT, first, second, LEFT + this.inner];
    const shapes = ["\u25CF", "\u25B2", "\u25C6"];
    this.zones.forEach((zone, which) => {
      const words = `${shapes[which]} ${zone.dataset.zone}`;
      zone.textContent = edges[which + 1] - edges[which] > 9 * words.length ? words : "";
      zone.setAttribute("x", (edges[which] + edges[which + 1]) / 2);
    });
    this.handles.forEach((handle, which) => {
      const x = which ? second : first;
      // The grips stand one above the other, so that both can be taken where the thresholds are the same.
      const y = which ? 60 : 46;
      const [hit, line, grip, ring, words] = handle.children;
      put(hit, { x: x - 14, y: y - 14, width: 28, height: 28 });
      put(line, { x1: x, x2: x, y1: y, y2: floor });
      put(grip, { transform: `translate(${x} ${y})` });
      put(ring, { x: x - 14, y: y - 13, width: 28, height: 26 });
      put(words, { x: which ? x + 15 : x - 15, y: y + 4 });
      words.textContent = `${which ? "T2" : "T1"} ${this.values[which].toFixed(2)}`;
      this.say(handle, this.values[which], `${words.textContent} on strangeness`);
    });
    const [t1, t2] = this.values.map((value) => value.toFixed(2));
    this.say(this.grab, this.values[0], `review from ${t1} to ${t2} on strangeness`);
  }

  say(element, value, words) {
    put(element, { "aria-valuemin": 0, "aria-valuemax": this.upper.toFixed(2), "aria-valuenow": value.toFixed(2) });
    element.setAttribute("aria-valuetext", words);
  }

  move(which, to) {
    const [first, second] = this.values;
    const within = (value) => rounded(Math.min(Math.max(0, value), Math.max(this.upper, second)));
    if (which === 2) {
      const width = second - first;
      const begins = rounded(Math.min(Math.max(0, to), Math.max(0, this.upper - width)));
      this.values = [begins, rounded(begins + width)];
    } else if (which === 1) {
      const end = within(to);
      this.values = [Math.min(first, end), end];
    } else {
      const begins = within(to);
      this.values = [begins, Math.max(second, begins)];
    }
    this.place();
    this.send();
  }

  begin(event, element, which) {
    if (event.button) return;
    event.preventDefault();
    element.setPointerCapture(event.pointerId);
    element.focus({ focusVisible: false });
    this.drag = { which, offset: this.values[which % 2] - this.under(event), before: [...this.values], element };
    this.front.classList.add("dragging");
  }

  follow(event) {
    if (!this.drag) return;
    const { which, offset } = this.drag;
    this.move(which, snapped(this.under(event) + offset));
  }

  end() {
    if (!this.drag) return;
    const { before } = this.drag;
    this.drag = null;
    this.front.classList.remove("dragging");
    if (before.some((value, which) => value !== this.values[which])) this.send();
  }

  key(event, which) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Escape" && this.drag) {
      this.values = this.drag.before;
      this.drag = null;
      this.front.classList.remove("dragging");
      this.place();
      this.send();
      return;
    }
    const now = this.values[which % 2];
    let to;
    if (event.key === "Home") to = 0;
    else if (event.key === "End") to = this.upper;
    else if (event.key in KEYS) {
      const steps = KEYS[event.key] * (event.shiftKey && Math.abs(KEYS[event.key]) === 1 ? 10 : 1);
      to = snapped(now + steps * STEP);
    } else return;
    event.preventDefault();
    event.stopPropagation();
    this.move(which, to);
  }

  send() {
    if (this.timer !== null) return;
    const now = performance.now();
    const pause = Math.max(0, this.sentAt + PAUSE - now);
    if (pause > 0 || (this.waiting !== null && now - this.sentAt < PATIENCE)) {
      this.timer = setTimeout(() => {
        this.timer = null;
        this.send();
      }, Math.max(pause, 15));
      return;
    }
    if (!this.box.isConnected) return;
    this.sentAt = now;
    this.sent += 1;
    this.waiting = this.sent;
    const [review, defect] = this.values;
    this.component.setStateValue("band", { review, defect, seq: this.sent, client: this.client });
  }

  choose(event, place, cells) {
    const chosen = cells.findIndex(([, cell]) => cell.classList.contains("chosen"));
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.target !== event.currentTarget || !cells.length) return;
    if (step) {
      const next = chosen < 0 ? (step > 0 ? 0 : cells.length - 1) : Math.min(cells.length - 1, Math.max(0, chosen + step));
      cells.forEach(([, cell], i) => cell.classList.toggle("chosen", i === next));
      this.told.textContent = this.words(this.data.rows[place], cells[next][0]);
    } else if (event.key === "Enter" && chosen >= 0) {
      this.pick(place, cells[chosen][0]);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  words(row, bin) {
    const [from, to] = [this.data.edges[bin], this.data.edges[bin + 1]];
    const last = bin === row.counts.length - 1;
    const range = last ? `from ${from.toFixed(2)} on` : `${from.toFixed(2)} to ${to.toFixed(2)}`;
    return `${row.counts[bin].toLocaleString("en")} ${row.name}, strangeness ${range}`;
  }

  pick(place, bin) {
    this.component.setTriggerValue("picked", { group: this.data.rows[place].group, bin });
  }

  hover(event, row, bin) {
    if (!event || this.drag) {
      this.tip.style.visibility = "hidden";
      return;
    }
    this.tip.textContent = this.words(row, bin);
    const box = this.box.getBoundingClientRect();
    const left = event.clientX - box.left + 12;
    this.tip.style.left = `${Math.max(0, Math.min(left, box.width - this.tip.offsetWidth))}px`;
    this.tip.style.top = `${event.clientY - box.top - 38}px`;
    this.tip.style.visibility = "visible";
  }
}
