// The map: Mars in simple cylindrical projection, or the scene of the candidate in hand.

const map = {
  scene: !placed || facts.scenes.length === 1,
  /** The rectangle that is being dragged, px of the canvas. */
  drag: null,
  browse: null,
  here() { return facts.scenes.find((scene) => scene.name === shown[at]?.scene); },
  /** Left, right, top, bottom. */
  bounds() {
    if (!this.scene) return [0, 360, 90, -90];
    const { rows, cols } = this.here() ?? { rows: 1, cols: 1 };
    return [0, Math.max(cols, 1), 0, Math.max(rows, 1)];
  },
  /** From the map's units to the canvas's pixels and back. */
  fit() {
    const { clientWidth: width, clientHeight: height } = $("map"), [left, right, top, bottom] = this.bounds();
    const each = Math.min((width - 8) / Math.abs(right - left), (height - 8) / Math.abs(bottom - top));
    const x0 = (width - each * Math.abs(right - left)) / 2, y0 = (height - each * Math.abs(bottom - top)) / 2;
    const down = Math.sign(bottom - top);
    return {
      x: (x) => x0 + (x - left) * each, y: (y) => y0 + (y - top) * down * each,
      backX: (x) => left + (x - x0) / each, backY: (y) => top + (down * (y - y0)) / each,
    };
  },
  at(one) { return this.scene ? [one.col_px, one.row_px] : [one.lon_deg, one.lat_deg]; },
  dots() { return this.scene ? shown.filter((one) => one.scene === shown[at]?.scene) : shown; },
  draw() {
    const canvas = $("map"), ratio = window.devicePixelRatio || 1;
    Object.assign(canvas, { width: canvas.clientWidth * ratio, height: canvas.clientHeight * ratio });
    const pen = canvas.getContext("2d"), { x, y } = this.fit(), colour = colours();
    pen.scale(ratio, ratio);
    this.ground(pen, x, y, colour);
    const dots = this.dots(), edged = dots.length < 400;
    for (const one of dots) dot(pen, x(this.at(one)[0]), y(this.at(one)[1]), verdict(one), colour, edged);
    if (shown[at]) {
      const [left, top] = this.at(shown[at]);
      ring(pen, x(left), y(top), 8, colour);
    }
    if (this.drag) {
      pen.setLineDash([4, 3]);
      pen.strokeRect(this.drag[0], this.drag[1], this.drag[2] - this.drag[0], this.drag[3] - this.drag[1]);
    }
    $("map-says").textContent = this.scene ? (shown[at]?.scene ?? "") : "Mars, simple cylindrical";
  },
  ground(pen, x, y, colour) {
    const [left, right, top, bottom] = this.bounds();
    const box = [x(left), y(top), x(right) - x(left), y(bottom) - y(top)];
    Object.assign(pen, { fillStyle: colour.pale, strokeStyle: colour.line, lineWidth: 1 });
    pen.fillRect(...box);
    if (this.scene) {
      if (this.picture()) pen.drawImage(this.picture(), ...box);
      return pen.strokeRect(...box);
    }
    Object.assign(pen, { font: "9px sans-serif" });
    pen.beginPath();
    for (let lon = 0; lon <= 360; lon += 30) { pen.moveTo(x(lon), y(90)); pen.lineTo(x(lon), y(-90)); }
    for (let lat = -90; lat <= 90; lat += 30) { pen.moveTo(x(0), y(lat)); pen.lineTo(x(360), y(lat)); }
    pen.stroke();
    pen.fillStyle = colour.dim;
    for (const lon of [90, 180, 270]) pen.fillText(`${lon}° E`, x(lon) + 2, y(-90) - 3);
    for (const lat of [60, 30, -30, -60]) pen.fillText(`${Math.abs(lat)}° ${lat > 0 ? "N" : "S"}`, x(0) + 2, y(lat) - 2);
  },
  /** The scene, small, where the page has it; drawn as soon as it is decoded. */
  picture() {
    const number = facts.scenes.indexOf(this.here());
    if (this.browse?.number !== number) {
      const browse = this.browse = { number, canvas: null };
      block(`scene-${number}`).then(decode).then((picture) => {
        if (!picture || this.browse !== browse) return;
        const canvas = make("canvas");
        paint(canvas, picture);
        browse.canvas = canvas;
        this.draw();
      });
    }
    return this.browse.canvas;
  },
  /** The listed candidate next to a place of the canvas, if it is near. */
  near(left, top) {
    const { x, y } = this.fit();
    const far = (one) => Math.hypot(x(this.at(one)[0]) - left, y(this.at(one)[1]) - top);
    const nearer = (best, one) => (best && far(best) <= far(one) ? best : one);
    const best = this.dots().reduce(nearer, null);
    return best && far(best) < 14 ? best : null;
  },
  /** Makes the dragged rectangle the filter's region. */
  region([x0, y0, x1, y1]) {
    if (this.scene && placed) return say("A region is in degrees: choose it on the map of Mars (G).");
    const { backX, backY } = this.fit(), digits = this.scene ? 0 : 2;
    const range = (name, a, b) => {
      $(`${name}-from`).value = Math.min(a, b).toFixed(digits);
      $(`${name}-to`).value = Math.max(a, b).toFixed(digits);
    };
    if (this.scene) $("by-scene").value = shown[at]?.scene ?? "";
    range("x", backX(x0), backX(x1));
    range("y", backY(y0), backY(y1));
    choose();
    say(`${grouped(shown.length)} candidates in the region; Shift+F shows all again.`);
  },
  listen() {
    const canvas = $("map");
    canvas.addEventListener("pointerdown", ({ offsetX: x, offsetY: y, pointerId }) => {
      this.drag = [x, y, x, y];
      canvas.setPointerCapture(pointerId);
    });
    canvas.addEventListener("pointermove", ({ offsetX, offsetY }) => {
      if (!this.drag) return;
      this.drag.splice(2, 2, offsetX, offsetY);
      this.draw();
    });
    canvas.addEventListener("pointerup", () => {
      const drag = this.drag;
      this.drag = null;
      if (!drag) return;
      if (Math.hypot(drag[2] - drag[0], drag[3] - drag[1]) > 8) return this.region(drag);
      const one = this.near(drag[2], drag[3]);
      if (one) go(shown.indexOf(one));
      else this.draw();
    });
  },
};
function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => [name, style.getPropertyValue(`--${name}`).trim()];
  return Object.fromEntries(["ink", "paper", "dim", "pale", "line", ...VERDICTS].map(of));
}
/** A filled circle, a cross, a diamond or a ring: told apart without colour, and on any ground. */
function dot(pen, x, y, verdict, colour, edged) {
  const line = (...points) => points.forEach(([dx, dy], k) => pen[k ? "lineTo" : "moveTo"](x + dx, y + dy));
  const shapes = {
    accept: () => pen.arc(x, y, 3.4, 0, 7),
    reject: () => { line([-3, -3], [3, 3]); line([3, -3], [-3, 3]); },
    unsure: () => { line([0, -4.4], [4.4, 0], [0, 4.4], [-4.4, 0]); pen.closePath(); },
    "": () => pen.arc(x, y, 2.4, 0, 7),
  };
  pen.beginPath();
  shapes[verdict]();
  Object.assign(pen, { strokeStyle: colour.paper, lineWidth: 4 });
  if (edged) pen.stroke();
  Object.assign(pen, { strokeStyle: colour[verdict] ?? colour.ink, fillStyle: colour[verdict], lineWidth: 1.7 });
  if (verdict === "accept" || verdict === "unsure") pen.fill();
  else pen.stroke();
}
function ring(pen, x, y, radius, colour) {
  for (const [style, width] of [[colour.paper, 5], [colour.ink, 2]]) {
    Object.assign(pen, { strokeStyle: style, lineWidth: width });
    pen.beginPath();
    pen.arc(x, y, radius, 0, 7);
    pen.stroke();
  }
}
