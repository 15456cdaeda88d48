// A picture with layers over it, zoomed and panned together with the nearest good part beside it.
//
// Everything moves here in the browser: nothing that is done in the viewer asks the server. Streamlit calls
// the default function again with every answer of the server; what is shown is only built anew where it is
// another picture, or has more layers than before.

const NS = "http://www.w3.org/2000/svg";
const MOST_ZOOM = 12;
const STEP = 1.3;
const PAN = 0.12;
const LOWEST = 200;
const HIGHEST = 600;
const SHARE_OF_SCREEN = 0.54;
const KEPT = "differnet.viewer";
const USUAL = { opacity: 80, scale: "run", regions: true, truth: true, good: true };

const viewers = new WeakMap();

export default function (component) {
  const { data, parentElement } = component;
  if (!data) return;
  let viewer = viewers.get(parentElement);
  if (!viewer) {
    viewer = new Viewer(parentElement);
    viewers.set(parentElement, viewer);
  }
  viewer.show(data);
}

function made(name, parent, attributes = {}, words = "") {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  if (words) element.textContent = words;
  if (parent) parent.appendChild(element);
  return element;
}

function drawn(name, parent, attributes = {}) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  parent.appendChild(element);
  return element;
}

function bytes(text) {
  return Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
}

function clamped(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

function path(shapes, width, height) {
  return shapes
    .map((shape) => {
      const points = [];
      for (let i = 0; i < shape.length; i += 2) {
        points.push(`${(shape[i] * width).toFixed(2)} ${(shape[i + 1] * height).toFixed(2)}`);
      }
      return `M${points.join("L")}Z`;
    })
    .join("");
}

function remembered() {
  // A browser may keep nothing: then everything is as usual.
  try {
    return { ...USUAL, ...JSON.parse(sessionStorage.getItem(KEPT) || "{}") };
  } catch {
    return { ...USUAL };
  }
}

function remember(wishes) {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(wishes));
  } catch {
    return;
  }
}

// One picture in a frame: what is in it is laid out by the viewer.
class Pane {
  constructor(viewer, picture, title) {
    this.viewer = viewer;
    this.picture = picture;
    this.box = made("figure", null, { class: "pane" });
    this.port = made("div", this.box, { class: "port", tabindex: 0, role: "group", "aria-label": title });
    this.sheet = made("div", this.port, { class: "sheet" });
    this.image = made("img", this.sheet, { alt: picture.alt, draggable: "false" });
    this.image.src = picture.uri;
    made("figcaption", this.box, {}, title);
    this.listen();
  }

  listen() {
    const { port, viewer } = this;
    port.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    port.addEventListener("keydown", (event) => viewer.key(event));
    port.addEventListener("dblclick", (event) => {
      viewer.zoomBy(event.shiftKey ? 1 / (STEP * STEP) : STEP * STEP, this.place(event));
    });
    port.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || viewer.zoom <= 1) return;
      this.grip = { x: event.clientX, y: event.clientY, centre: viewer.centre };
      port.setPointerCapture(event.pointerId);
      port.classList.add("held");
    });
    port.addEventListener("pointermove", (event) => {
      viewer.tell(this.place(event));
      if (!this.grip) return;
      const { width, height } = this.size();
      viewer.moveTo([
        this.grip.centre[0] - (event.clientX - this.grip.x) / width,
        this.grip.centre[1] - (event.clientY - this.grip.y) / height,
      ]);
    });
    for (const name of ["pointerup", "pointercancel"]) {
      port.addEventListener(name, () => {
        this.grip = null;
        port.classList.remove("held");
      });
    }
    port.addEventListener("pointerleave", () => viewer.tell(null));
  }

  wheel(event) {
    // Without focus the wheel scrolls the page: a picture must not catch a person who passes by.
    const focused = this.port.getRootNode().activeElement === this.port;
    if (!focused && !event.ctrlKey) return;
    event.preventDefault();
    this.viewer.zoomBy(event.deltaY < 0 ? STEP : 1 / STEP, this.place(event));
  }

  size() {
    const { width, height } = this.picture;
    const fit = Math.min(this.port.clientWidth / width, this.port.clientHeight / height);
    return { width: width * fit * this.viewer.zoom, height: height * fit * this.viewer.zoom, fit };
  }

  place(event) {
    const seen = this.sheet.getBoundingClientRect();
    return [(event.clientX - seen.left) / seen.width, (event.clientY - seen.top) / seen.height];
  }

  lay() {
    const { width, height, fit } = this.size();
    const [x, y] = this.viewer.centre;
    const room = [this.port.clientWidth, this.port.clientHeight];
    const at = [
      [x, width, room[0]],
      [y, height, room[1]],
    ].map(([share, size, space]) => {
      if (size <= space) return (space - size) / 2;
      return clamped(space / 2 - share * size, space - size, 0);
    });
    this.sheet.style.width = `${width}px`;
    this.sheet.style.height = `${height}px`;
    this.sheet.style.transform = `translate(${at[0]}px, ${at[1]}px)`;
    this.port.classList.toggle("movable", this.viewer.zoom > 1);
    this.image.classList.toggle("coarse", fit * this.viewer.zoom > 3);
  }
}

class Viewer {
  constructor(root) {
    this.wishes = remembered();
    this.item = null;
    this.version = null;
    this.zoom = 1;
    this.centre = [0.5, 0.5];
    this.panes = [];
    this.marks = [];
    this.box = made("div", root, { class: "viewer" });
    this.bar = made("div", this.box, { class: "bar" });
    this.stage = made("div", this.box, { class: "stage" });
    this.foot = made("div", this.box, { class: "foot" });
    new ResizeObserver(() => this.lay()).observe(this.stage);
  }

  show(data) {
    if (data.version === this.version) return;
    const other = data.item !== this.item;
    // The layer that a person chose stays chosen from picture to picture.
    const chosen = this.data && this.data.layers.length ? this.data.layers[this.layer].name : "";
    this.data = data;
    this.version = data.version;
    this.item = data.item;
    if (other) {
      this.zoom = 1;
      this.centre = [0.5, 0.5];
    }
    this.layer = Math.max(0, data.layers.findIndex((layer) => layer.name === chosen));
    this.colours = bytes(data.colours);
    this.values = data.layers.map((layer) => bytes(layer.values));
    this.build();
  }

  wish(name, value) {
    this.wishes[name] = value;
    remember(this.wishes);
  }

  // Building.

  build() {
    const { data } = this;
    for (const part of [this.bar, this.stage, this.foot]) part.replaceChildren();
    this.buildBar();
    const panes = made("div", this.stage, { class: "panes" });
    this.main = new Pane(this, data.picture, `${data.name}: this picture`);
    this.panes = [this.main];
    panes.appendChild(this.main.box);
    if (data.good) {
      this.good = new Pane(this, data.good, data.good.title);
      this.panes.push(this.good);
      panes.appendChild(this.good.box);
    } else {
      this.good = null;
    }
    this.buildSheet();
    this.buildList();
    this.buildFoot();
    this.refresh();
  }

  buildBar() {
    const { bar, data, wishes } = this;
    if (data.layers.length > 1) {
      const label = made("label", bar, { class: "field" });
      made("span", label, {}, "Show");
      const list = made("select", label);
      data.layers.forEach((layer, place) => {
        const option = made("option", list, { value: place }, layer.name);
        option.selected = place === this.layer;
      });
      list.addEventListener("change", () => {
        this.layer = Number(list.value);
        this.refresh();
      });
    }
    if (data.layers.length) {
      const label = made("label", bar, { class: "field" });
      made("span", label, {}, "Opacity");
      const range = made("input", label, { type: "range", min: 0, max: 100, step: 5 });
      range.value = wishes.opacity;
      this.told = made("output", label, { class: "figure" });
      range.addEventListener("input", () => {
        this.wish("opacity", Number(range.value));
        this.refresh();
      });
      const scales = made("fieldset", bar, { class: "field" });
      made("legend", scales, {}, "Colours of");
      const name = `scale-${Math.random().toString(36).slice(2)}`;
      for (const [value, words] of [["run", "the run"], ["own", "this picture"]]) {
        const choice = made("label", scales);
        const button = made("input", choice, { type: "radio", name, value });
        button.checked = wishes.scale === value;
        made("span", choice, {}, words);
        button.addEventListener("change", () => {
          this.wish("scale", value);
          this.refresh();
        });
      }
    }
    const shown = made("div", bar, { class: "field" });
    if (data.regions.length) this.check(shown, "regions", "Regions");
    if (data.truth) this.check(shown, "truth", "Ground truth");
    if (data.good) this.check(shown, "good", "Nearest good part");
    const zoom = made("div", bar, { class: "field zoom", role: "group", "aria-label": "Zoom" });
    this.button(zoom, "\u2212", "Zoom out", () => this.zoomBy(1 / STEP));
    this.size = made("output", zoom, { class: "figure" });
    this.button(zoom, "+", "Zoom in", () => this.zoomBy(STEP));
    this.button(zoom, "Fit", "Show the whole picture", () => this.reset());
  }

  check(parent, wish, words) {
    const label = made("label", parent);
    const box = made("input", label, { type: "checkbox" });
    box.checked = this.wishes[wish];
    made("span", label, {}, words);
    box.addEventListener("change", () => {
      this.wish(wish, box.checked);
      this.refresh();
    });
  }

  button(parent, words, title, act) {
    const button = made("button", parent, { type: "button", title, "aria-label": title }, words);
    button.addEventListener("click", act);
    return button;
  }

  buildSheet() {
    const { data } = this;
    const { sheet } = this.main;
    const [width, height] = [data.picture.width, data.picture.height];
    if (data.closeup) {
      const [x, y, w, h] = data.closeup.box;
      const sharp = made("img", sheet, { class: "closeup", alt: "", draggable: "false" });
      sharp.src = data.closeup.uri;
      Object.assign(sharp.style, {
        left: `${100 * x}%`,
        top: `${100 * y}%`,
        width: `${100 * w}%`,
        height: `${100 * h}%`,
      });
    }
    this.canvas = made("canvas", sheet, { "aria-hidden": "true" });
    this.svg = drawn("svg", sheet, {
      viewBox: `0 0 ${width} ${height}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    this.outlines = drawn("g", this.svg, { class: "regions" });
    this.tags = made("div", sheet, { class: "tags", "aria-hidden": "true" });
    this.marks = data.regions.map((region) => {
      const d = path(region.shapes, width, height);
      const group = drawn("g", this.outlines);
      drawn("path", group, { d, class: "halo" });
      drawn("path", group, { d, class: "edge" });
      const tag = made("span", this.tags, { class: "tag" }, String(region.number));
      const [x, y] = region.box;
      tag.style.left = `${100 * x}%`;
      tag.style.top = `${100 * y}%`;
      // At the picture's edge it stands inside, where it is seen.
      tag.style.transform = `translate(${x < 0.04 ? 0 : -50}%, ${y < 0.04 ? 0 : -50}%)`;
      return { region, group, tag };
    });
    this.truth = drawn("g", this.svg, { class: "truth" });
    if (data.truth) {
      const d = path(data.truth, width, height);
      drawn("path", this.truth, { d, class: "halo" });
      drawn("path", this.truth, { d, class: "edge" });
    }
  }

  buildList() {
    const { data } = this;
    this.aside = null;
    if (!data.regions.length) return;
    this.aside = made("div", this.stage, { class: "aside" });
    const head = `Regions that stand out: ${data.regions.length}`;
    made("div", this.aside, { class: "head", id: "regions-head" }, head);
    const list = made("ol", this.aside, { "aria-labelledby": "regions-head" });
    for (const mark of this.marks) {
      const item = made("li", list);
      const button = made("button", item, { type: "button", title: "Zoom to this region, and back" });
      made("span", button, { class: "number" }, String(mark.region.number));
      made("span", button, {}, mark.region.words);
      mark.button = button;
      for (const [on, off] of [["pointerenter", "pointerleave"], ["focus", "blur"]]) {
        button.addEventListener(on, () => this.point(mark, true));
        button.addEventListener(off, () => this.point(mark, false));
      }
      mark.group.addEventListener("pointerenter", () => this.point(mark, true));
      mark.group.addEventListener("pointerleave", () => this.point(mark, false));
      button.addEventListener("click", () => this.zoomTo(mark));
    }
  }

  buildFoot() {
    const { data, foot } = this;
    if (data.layers.length) {
      const legend = made("div", foot, { class: "legend" });
      const bar = made("canvas", legend, { class: "colours", "aria-hidden": "true" });
      bar.width = 256;
      bar.height = 1;
      const context = bar.getContext("2d");
      const strip = context.createImageData(256, 1);
      for (let i = 0; i < 256; i++) {
        for (let c = 0; c < 3; c++) strip.data[4 * i + c] = this.colours[3 * i + c];
        strip.data[4 * i + 3] = 255;
      }
      context.putImageData(strip, 0, 0);
      this.ticks = made("div", legend, { class: "ticks" });
      this.meaning = made("p", foot, { class: "words" });
    }
    this.readout = made("p", foot, { class: "words readout" });
    this.tell(null);
  }

  // Showing.

  refresh() {
    const { data, wishes } = this;
    this.outlines.style.display = wishes.regions ? "" : "none";
    this.tags.style.display = wishes.regions ? "" : "none";
    if (this.aside) this.aside.style.display = wishes.regions ? "" : "none";
    this.truth.style.display = wishes.truth ? "" : "none";
    if (this.good) this.good.box.style.display = wishes.good ? "" : "none";
    if (data.layers.length) this.paint();
    this.lay();
  }

  paint() {
    const layer = this.data.layers[this.layer];
    const values = this.values[this.layer];
    const { low, high, ticks } = layer.scales[this.wishes.scale] || layer.scales.run;
    this.canvas.width = layer.columns;
    this.canvas.height = layer.rows;
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(layer.columns, layer.rows);
    const unit = layer.top / 255;
    for (let i = 0; i < values.length; i++) {
      const share = clamped((values[i] * unit - low) / Math.max(high - low, 1e-6), 0, 1);
      const colour = 3 * Math.round(255 * share);
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = this.colours[colour + c];
      // The root makes what is faint visible; nothing stays transparent.
      image.data[4 * i + 3] = Math.round(255 * Math.sqrt(share));
    }
    context.putImageData(image, 0, 0);
    this.canvas.style.opacity = this.wishes.opacity / 100;
    this.told.textContent = `${this.wishes.opacity} %`;
    this.ticks.replaceChildren();
    for (const [value, edge] of [[low, "start"], ...ticks.map((t) => [t, "middle"]), [high, "end"]]) {
      const tick = made("span", this.ticks, { class: edge }, String(Math.round(10 * value) / 10));
      tick.style.left = `${(100 * (value - low)) / Math.max(high - low, 1e-6)}%`;
    }
    const words = this.wishes.scale === "run" ? layer.words : "The coldest to the hottest place of this picture.";
    this.meaning.textContent = words;
  }

  tell(place) {
    if (!this.readout) return;
    const inside = place && place.every((share) => share >= 0 && share < 1);
    if (!inside) {
      this.readout.textContent =
        "Click the picture, then: + and \u2212 or the wheel zoom, 0 shows all, arrows or dragging move it.";
      return;
    }
    const [x, y] = place.map((share, axis) => Math.floor(share * this.data.pixels[axis]));
    let words = `x ${x.toLocaleString("en")}, y ${y.toLocaleString("en")} px`;
    const layer = this.data.layers[this.layer];
    if (layer) {
      const cell =
        Math.floor(place[1] * layer.rows) * layer.columns + Math.floor(place[0] * layer.columns);
      words += `: ${((this.values[this.layer][cell] * layer.top) / 255).toFixed(1)}`;
    }
    this.readout.textContent = words;
  }

  point(mark, on) {
    mark.group.classList.toggle("pointed", on);
    mark.tag.classList.toggle("pointed", on);
    mark.button.classList.toggle("pointed", on);
  }

  // Moving.

  lay() {
    if (!this.data) return;
    const shown = this.panes.filter((pane) => pane.box.style.display !== "none");
    // As high as the tallest picture needs, and no higher than leaves room for words on the screen.
    const needed = shown.map(({ port, picture }) => (port.clientWidth * picture.height) / picture.width);
    const most = Math.min(HIGHEST, SHARE_OF_SCREEN * window.innerHeight);
    const height = clamped(Math.max(...needed), LOWEST, Math.max(LOWEST, most));
    for (const pane of shown) {
      pane.port.style.height = `${Math.round(height)}px`;
      pane.lay();
    }
    if (this.aside) this.aside.style.maxHeight = `${Math.round(height)}px`;
    if (this.size) this.size.textContent = `${Math.round(100 * this.zoom)} %`;
  }

  zoomBy(factor, at = this.centre) {
    const zoom = clamped(this.zoom * factor, 1, MOST_ZOOM);
    // What is under the pointer stays there.
    const keep = this.zoom / zoom;
    this.centre = this.centre.map((share, axis) => at[axis] + (share - at[axis]) * keep);
    this.zoom = zoom;
    this.moveTo(this.centre);
  }

  zoomTo(mark) {
    const [x, y, w, h] = mark.region.box;
    const wanted = clamped(0.4 / Math.max(w, h), 1.5, MOST_ZOOM);
    if (this.zoomed === mark && this.zoom > 1) return this.reset();
    this.zoomed = mark;
    this.zoom = wanted;
    return this.moveTo([x + w / 2, y + h / 2]);
  }

  moveTo(centre) {
    // No further than what fills the frame.
    const most = 0.5 / this.zoom;
    this.centre = centre.map((share) => clamped(share, most, 1 - most));
    this.lay();
  }

  reset() {
    this.zoom = 1;
    this.centre = [0.5, 0.5];
    this.zoomed = null;
    this.lay();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = PAN / this.zoom;
    const ways = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key === "+" || event.key === "=") this.zoomBy(STEP);
    else if (event.key === "-") this.zoomBy(1 / STEP);
    else if (event.key === "0") this.reset();
    else if (this.zoom > 1 && ways[event.key]) {
      this.moveTo(this.centre.map((share, axis) => share + ways[event.key][axis]));
    } else return;
    // The page goes to the next picture with the same arrows.
    event.preventDefault();
    event.stopPropagation();
  }
}
