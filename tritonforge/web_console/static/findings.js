// @ts-check
/** The findings of `tritonforge validate`; badges of the graph link to them. */

import { element } from "./dom.js";

/**
 * The list of findings.
 * @param {any[]} findings
 */
export function renderFindings(findings) {
  if (!findings.length) return element("p", { class: "empty good", text: "No findings: tritonforge validate has nothing to report." });
  return element(
    "ol",
    { class: "finding-list" },
    ...findings.map((finding) =>
      element(
        "li",
        { id: `finding-${finding.number}`, class: finding.severity, tabindex: "-1" },
        element("p", {}, element("strong", { class: "badge", text: `${finding.number} ${finding.code}` }), element("span", { class: "severity", text: finding.severity }), element("code", { class: "muted", text: finding.place })),
        element("p", { text: finding.message }),
        finding.help ? element("p", { class: "muted small", text: finding.help }) : null,
      ),
    ),
  );
}
