"use strict";
// Sorting and filtering of tables; without this script they are complete and in the order of execution. And the Tab key
// stops at figures and tables only where arrow keys have something to scroll.

function cellKey(row, column) {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
}

// Numbers before texts (a missing number is the text "-"), so that what is missing stays at the end either way.
function compare(a, b, sign) {
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  if (typeof a === "number") return sign * (a - b);
  return sign * a.localeCompare(b, "en", { numeric: true });
}

function sortBy(table, column) {
  const header = table.tHead.rows[0].cells[column];
  const isNumber = header.classList.contains("number");
  const first = isNumber ? "descending" : "ascending";
  const second = isNumber ? "ascending" : "descending";
  const direction = header.getAttribute("aria-sort") === first ? second : first;
  const sign = direction === "ascending" ? 1 : -1;
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction);
  const rows = Array.from(table.tBodies[0].rows);
  rows.sort((a, b) => compare(cellKey(a, column), cellKey(b, column), sign));
  table.tBodies[0].append(...rows);
}

function filterBy(table, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = Array.from(table.tBodies[0].rows);
  let shown = 0;
  for (const row of rows) {
    const content = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => content.includes(word));
    shown += row.hidden ? 0 : 1;
  }
  document.getElementById(table.id + "-count").textContent = `${shown} of ${rows.length} rows`;
}

for (const table of document.querySelectorAll("table.sorts")) {
  const headers = Array.from(table.tHead.rows[0].cells);
  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => sortBy(table, column));
  });
}
for (const input of document.querySelectorAll("input[data-filters]")) {
  const table = document.getElementById(input.dataset.filters);
  input.addEventListener("input", () => filterBy(table, input.value));
}

function stopWhereItScrolls() {
  for (const each of document.querySelectorAll(".wide")) each.tabIndex = each.scrollWidth > each.clientWidth ? 0 : -1;
}
stopWhereItScrolls();
window.addEventListener("resize", stopWhereItScrolls);
