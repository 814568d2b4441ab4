"use strict";
(() => {
  const table = document.querySelector("#layers");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const text = document.querySelector("#filter-text");
  const verdict = document.querySelector("#filter-verdict");
  const count = document.querySelector("#filter-count");

  const key = (row, column) => {
    const cell = row.cells[column];
    const value = cell.dataset.value;
    if (value === undefined) return cell.textContent.trim();
    return value === "inf" ? Infinity : value === "nan" ? Infinity : Number(value);
  };
  const order = (a, b) =>
    typeof a === "number" ? (a === b ? 0 : a < b ? -1 : 1) : a.localeCompare(b, "en", { numeric: true });

  const sort = (head) => {
    const down = head.getAttribute("aria-sort") === "ascending";
    const column = head.cellIndex;
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sorted = rows.slice().sort((a, b) => order(key(a, column), key(b, column)) * (down ? -1 : 1));
    body.append(...sorted);
  };

  const filter = () => {
    const wanted = text.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const fits = (!wanted || row.textContent.toLowerCase().includes(wanted)) &&
        (!verdict.value || row.dataset.verdict === verdict.value ||
          (verdict.value === "differs" && row.dataset.verdict !== "same"));
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${rows.length} layers`;
  };

  // Plain words become buttons only here, so that without scripts nothing looks as if it worked.
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(head));
    head.replaceChildren(button);
  }
  text.addEventListener("input", filter);
  verdict.addEventListener("change", filter);
  document.querySelector("#controls").hidden = false;
  filter();
})();
