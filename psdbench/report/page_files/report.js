"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // Tables: a click on a heading sorts, a second one turns the order round; cells without a number stay last.
  function sortBy(heading) {
    const table = heading.closest("table");
    const column = [...heading.parentElement.children].indexOf(heading);
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const numeric = [...body.rows].some((row) => "sort" in row.cells[column].dataset);
    const key = (row) => {
      const cell = row.cells[column];
      if (!numeric) return cell.textContent;
      return "sort" in cell.dataset ? Number(cell.dataset.sort) : null;
    };
    const rows = [...body.rows].map((row) => [key(row), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      const order = numeric ? a - b : a.localeCompare(b, undefined, { numeric: true });
      return down ? -order : order;
    });
    body.append(...rows.map(([, row]) => row));
  }
  for (const heading of document.querySelectorAll("table.sortable thead th")) {
    heading.querySelector("button")?.addEventListener("click", () => sortBy(heading));
  }

  byId("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.style.colorScheme
      ? root.style.colorScheme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.style.colorScheme = dark ? "light" : "dark";
  });

  // Assets in 3D: plotly is unpacked from this very file when the first one is asked for.
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  let library = null;
  function plotly() {
    library ??= (async () => {
      const packed = new Blob([bytes(byId("plotly").textContent)]);
      const code = await new Response(packed.stream().pipeThrough(new DecompressionStream("deflate"))).text();
      document.head.append(make("script", { textContent: code }));
      return window.Plotly;
    })();
    return library;
  }

  function turnButton(job, label) {
    const holder = make("div");
    const button = make("button", { type: "button", textContent: "Turn in 3D" });
    button.addEventListener("click", async () => {
      button.disabled = true;
      button.textContent = "Loading…";
      const cloud = make("div", { className: "cloud", role: "img" });
      cloud.setAttribute("aria-label", `points of ${label}; drag to turn, or use the buttons below`);
      holder.append(cloud);
      await draw(cloud, job);
      button.remove();
      holder.append(...rotors(cloud));
    });
    holder.append(button);
    return holder;
  }

  async function draw(place, job) {
    const library = await plotly();
    const raw = bytes(job.points), x = [], y = [], z = [], color = [];
    for (let i = 0; i < raw.length; i += 6) {
      x.push(raw[i] / 127.5 - 1);
      y.push(raw[i + 1] / 127.5 - 1);
      z.push(raw[i + 2] / 127.5 - 1);
      color.push(`rgb(${raw[i + 3]},${raw[i + 4]},${raw[i + 5]})`);
    }
    const size = Math.max(2, job.cell * place.clientWidth * 0.66);
    const hidden = { visible: false, range: [-1, 1] };
    const trace = { type: "scatter3d", mode: "markers", x, y, z, hoverinfo: "skip", marker: { size, color, opacity: 1, line: { width: 0 } } };
    const scene = { xaxis: hidden, yaxis: hidden, zaxis: hidden, aspectmode: "cube", camera: { eye: eye(45) } };
    const layout = { scene, margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "#fff", showlegend: false };
    await library.newPlot(place, [trace], layout, { displayModeBar: false, responsive: true });
  }

  const eye = (degrees) => {
    const radians = (degrees * Math.PI) / 180;
    return { x: 1.1 * Math.cos(radians), y: 1.1 * Math.sin(radians), z: 0.3 };
  };

  function rotors(place) {
    let degrees = 45;
    return [["◀", "left", -30], ["▶", "right", 30]].map(([text, side, by]) => {
      const button = make("button", { type: "button", textContent: text, ariaLabel: `turn ${side}` });
      button.addEventListener("click", () => {
        degrees += by;
        window.Plotly.relayout(place, { "scene.camera.eye": eye(degrees) });
      });
      return button;
    });
  }

  function gallery(data) {
    const at = (name) => byId(data.prefix + name);
    const prompt = at("prompt"), seed = at("seed"), angle = at("angle"), play = at("play"), figures = at("figures");
    const heading = data.prefix ? "h4" : "h3";
    const around = Math.max(1, ...data.views.map((name, i) => (name.startsWith("overhead") ? 0 : i + 1)));
    data.prompts.forEach((text, index) => prompt.append(make("option", { value: index, textContent: text })));
    const seeds = [...new Set(data.jobs.map((job) => job.seed))].sort((a, b) => a - b);
    seeds.forEach((number) => seed.append(make("option", { value: number, textContent: number })));

    // Thumbnails show the view between front and side: one strip serves all places.
    for (const button of document.querySelectorAll(`[data-prefix="${data.prefix}"] button.thumb`)) {
      const job = data.jobs[button.dataset.job], picture = button.firstElementChild;
      picture.style.objectPosition = `${(100 * Math.min(1, job.views - 1)) / Math.max(1, job.views - 1)}% 0`;
      picture.src = job.strip;
      button.addEventListener("click", () => {
        prompt.value = job.prompt;
        show();
        at("gallery").scrollIntoView();
        prompt.focus();
      });
    }

    function turntable(source, views, label) {
      const picture = make("img", { src: source, alt: label });
      picture.dataset.views = views;
      return make("div", { className: "turn" }, picture);
    }

    function figure(job) {
      const name = `${job.method}, seed ${job.seed}`;
      const label = `${name}: ${data.prompts[job.prompt]}`;
      const box = make("figure", { className: "asset" }, make(heading, { textContent: name }));
      box.append(turntable(job.strip, job.views, label));
      const strip = make("div", { className: "strip" }, make("img", { src: job.strip, alt: `all views of ${label}` }));
      box.append(strip);
      if ("worst" in job) {
        const frame = make("div", { className: "worst" });
        frame.style.left = `${(100 * job.worst) / job.views}%`;
        frame.style.width = `${100 / job.views}%`;
        strip.append(frame);
        const where = data.views[job.worst] ?? `view ${job.worst}`;
        box.append(make("p", { className: "bad", textContent: `worst view: ${where}, ${job.worstText}` }));
      }
      const list = make("dl");
      for (const [id, text] of job.scores) list.append(make("dt", { textContent: id }), make("dd", { textContent: text }));
      box.append(list);
      if ("points" in job) box.append(turnButton(job, label));
      const links = make("p");
      for (const [text, target] of job.links) links.append(make("a", { href: target, textContent: text }), " ");
      box.append(links);
      return box;
    }

    function show() {
      const index = Number(prompt.value);
      figures.replaceChildren();
      if (data.truth[index]) {
        const box = make("figure", { className: "asset" }, make(heading, { textContent: "ground truth" }));
        box.append(turntable(data.truth[index], data.views.length, `ground truth: ${data.prompts[index]}`));
        figures.append(box);
      }
      const own = data.jobs.filter((job) => job.prompt === index && job.seed === Number(seed.value));
      figures.append(...own.map(figure));
      if (!own.length) figures.append(make("p", { textContent: "No picture of this prompt and seed." }));
      turn();
    }

    // All turntables follow one angle, so they turn in step.
    angle.max = around - 1;
    function turn() {
      const view = Number(angle.value);
      for (const picture of figures.querySelectorAll(".turn img")) {
        picture.style.transform = `translateX(${(-100 * view) / Number(picture.dataset.views)}%)`;
      }
      at("view").textContent = data.views[view] ?? `view ${view}`;
    }
    let clock = 0;
    play.addEventListener("click", () => {
      const running = play.getAttribute("aria-pressed") === "true";
      clearInterval(clock);
      if (!running) {
        clock = setInterval(() => {
          angle.value = (Number(angle.value) + 1) % around;
          turn();
        }, 350);
      }
      play.setAttribute("aria-pressed", String(!running));
      play.textContent = running ? "Turn all" : "Stop";
    });
    angle.addEventListener("input", turn);
    prompt.addEventListener("change", show);
    seed.addEventListener("change", show);
    const step = (by) => {
      prompt.value = (Number(prompt.value) + by + data.prompts.length) % data.prompts.length;
      show();
    };
    at("previous").addEventListener("click", () => step(-1));
    at("next").addEventListener("click", () => step(1));
    show();
  }

  for (const data of JSON.parse(byId("data").textContent)) if (data.jobs.length) gallery(data);
})();
