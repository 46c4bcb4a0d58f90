"use strict";
(() => {
  // Sorting: by the first number of the cells where most have one, else by their text.
  const number = (text) => {
    const found = text.replace(/,/g, "").match(/^[^\d-]{0,2}(-?\d+(\.\d+)?(e-?\d+)?)/i);
    return found ? parseFloat(found[1]) : NaN;
  };
  const cells = (row) => row.children;
  for (const table of document.querySelectorAll("table:not(.plain)")) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    heads.forEach((head, column) => {
      const texts = [...body.rows].map((row) => cells(row)[column].textContent.trim());
      const filled = texts.filter((text) => text !== "-" && text !== "");
      const numeric = filled.length > 0 && filled.every((text) => !isNaN(number(text)));
      if (numeric) {
        head.classList.add("number");
        for (const row of body.rows) cells(row)[column].classList.add("number");
      }
      head.tabIndex = 0;
      head.title = "sort by this column";
      const sort = () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => {
          const text = cells(row)[column].textContent.trim();
          return numeric ? number(text) : text.toLowerCase();
        };
        const empty = (value) => value === "" || value === "-" || Number.isNaN(value);
        const rows = [...body.rows].map((row) => [key(row), row]);
        rows.sort(([a], [b]) => {
          if (empty(a) || empty(b)) return empty(a) - empty(b);
          const order = numeric ? a - b : a.localeCompare(b, "en", { numeric: true });
          return down ? -order : order;
        });
        body.append(...rows.map(([, row]) => row));
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); }
      });
    });
  }

  const table = document.getElementById("rows");
  if (!table) return;
  const label = document.getElementById("label");
  const name = document.getElementById("name");
  const filter = () => {
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const fits = (!label.value || cells(row)[1].textContent === label.value) &&
        cells(row)[0].textContent.toLowerCase().includes(name.value.toLowerCase());
      row.hidden = !fits;
      shown += fits;
    }
    document.getElementById("shown").textContent = `${shown} images`;
  };
  label.addEventListener("change", filter);
  name.addEventListener("input", filter);

  const stored = document.getElementById("pictures");
  if (!stored) return;
  let pictures = null;  // parsed when the first image is asked for, so that the page opens at once
  const viewer = document.getElementById("viewer");
  const model = document.getElementById("model");
  let current = null;
  const shape = (tag, attributes, parent) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return parent.appendChild(made);
  };
  const panel = (caption, picture, draw) => {
    const figure = document.createElement("figure");
    const [width, height] = picture.size;
    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": caption }, figure);
    shape("image", { href: `data:image/webp;base64,${picture.picture}`, width, height }, svg);
    draw(svg);
    const text = document.createElement("figcaption");
    text.textContent = caption;
    figure.append(text);
    return figure;
  };
  const outline = (svg, kind, path) => shape("path", { class: "line", d: path }, shape("g", { class: kind }, svg));
  // What lies in one outline and not in the other: the first, painted through a mask of the second.
  const difference = (svg, kind, inside, outside) => {
    const id = `mask-${kind}`;
    const mask = shape("mask", { id }, svg);
    shape("rect", { width: "100%", height: "100%", fill: "white" }, mask);
    shape("path", { d: outside, fill: "black", "fill-rule": "evenodd" }, mask);
    shape("path", { d: inside, class: kind, "fill-rule": "evenodd", mask: `url(#${id})` }, svg);
  };
  const show = (row) => {
    pictures = pictures || JSON.parse(stored.textContent);
    if (current) current.classList.remove("chosen");
    current = row;
    row.classList.add("chosen");
    const picture = pictures[Number(row.dataset.row)];
    const found = picture.found[Number(model.value)];
    const dice = cells(row)[2 + Number(model.value)].textContent;
    document.getElementById("viewer-title").textContent =
      `${cells(row)[0].textContent} · ${cells(row)[1].textContent} · Dice ${dice}`;
    const panels = [
      panel("Input", picture, () => {}),
      panel("Ground truth", picture, (svg) => outline(svg, "truth", picture.truth)),
    ];
    if (found !== null) {
      panels.push(panel("Prediction", picture, (svg) => outline(svg, "found", found)));
      panels.push(panel("Disagreement", picture, (svg) => {
        difference(svg, "missed", picture.truth, found);
        difference(svg, "extra", found, picture.truth);
        outline(svg, "truth", picture.truth);
        outline(svg, "found", found);
      }));
    }
    document.getElementById("panels").replaceChildren(...panels);
    if (!viewer.open) {
      viewer.showModal();
      document.getElementById("next").focus();  // arrow keys would change the model
    }
  };
  const move = (direction) => {
    let row = current;
    do { row = direction > 0 ? row.nextElementSibling : row.previousElementSibling; } while (row && row.hidden);
    if (row) show(row);
  };
  table.tBodies[0].addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row) show(row);
  });
  model.addEventListener("change", () => show(current));
  document.getElementById("previous").addEventListener("click", () => move(-1));
  document.getElementById("next").addEventListener("click", () => move(1));
  viewer.addEventListener("keydown", (event) => {
    if (event.target === model) return;
    if (event.key === "ArrowRight") move(1);
    if (event.key === "ArrowLeft") move(-1);
  });
})();
