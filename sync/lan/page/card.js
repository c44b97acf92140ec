// What a card says, as rows of a definition list.
import { t } from "./language.js";

// The fields of each kind of card, in the order of the card.
const fields = {
  resident_id_card: ["name", "sex", "nation", "birth", "address", "id_number", "issuer", "validity"],
  foreigner_permanent_residence_2017: ["english_name", "name", "sex", "birth", "nationality", "id_number", "validity", "authority_code", "version"],
  foreigner_permanent_residence_2023: ["english_name", "name", "sex", "birth", "nationality", "id_number", "validity", "previous_id_number", "renewals"],
  unknown: ["id_number", "sex", "birth", "validity"],
  hmt_residence_permit: ["name", "sex", "birth", "address", "id_number", "issuer", "validity", "region", "travel_permit_number", "issue_count"],
};

// How many characters of a field may be seen before somebody asks for all; a
// field that is not here tells nobody who the person is.
const seen = {
  name: 1, english_name: 1, id_number: 3, previous_id_number: 3, travel_permit_number: 1,
  nation: 0, birth: 0, address: 0, issuer: 0, new_address: 0,
};

const longestMask = 18;

// mask leaves the first characters and a star for each that follows.
function mask(text, keep) {
  const all = [...text];
  if (all.length <= keep) keep = 0;
  return all.slice(0, keep).join("") + "*".repeat(Math.min(all.length - keep, longestMask));
}

function valueOf(card, field) {
  if (field === "sex") return t().desk.sex[card.sex_code] || card.sex;
  if (field !== "validity") return card[field];
  const until = card.long_term ? t().desk.longTerm : card.valid_to;
  return [card.valid_from, until].map((d) => d || t().desk.blank).join(" – ");
}

function row(label, value, field, shown) {
  const dt = document.createElement("dt"), dd = document.createElement("dd"), text = document.createElement("span");
  dt.textContent = label;
  dd.dataset.field = field;
  dd.append(text);
  if (!value) {
    text.textContent = t().desk.blank;
    text.className = "quiet";
  } else if (field in seen && !shown) {
    text.textContent = mask(value, seen[field]);
    text.setAttribute("role", "img"); // a screen reader says the label, not the stars
    text.setAttribute("aria-label", text.textContent.replace(/\*+$/, "") + t().desk.masked);
  } else {
    text.textContent = value;
    if (field !== "validity" && field !== "sex") text.lang = field.startsWith("english") ? "en" : "zh-CN";
  }
  return [dt, dd];
}

// rowsOf gives the rows of a card, masked unless shown.
export function rowsOf(held, shown) {
  const order = fields[held.card.card_type] || fields.unknown;
  return [
    ...order.flatMap((field) => row(t().desk.field[field], valueOf(held.card, field), field, shown)),
    ...(held.new_addresses || []).flatMap((address) => row(t().desk.field.new_address, address, "new_address", shown)),
  ];
}

// sentenceOf says what is doubtful about a card.
export function sentenceOf(warning) {
  const say = t().desk.warning[warning.code];
  const shownAs = { sex_code: "sex", nation_code: "nation", valid_from: "validity", valid_to: "validity", previous_number_link: "previous_id_number", type_flag: "card" };
  const label = t().desk.field[shownAs[warning.field] || warning.field] || warning.field;
  return say ? say(label) : `${label}: ${warning.code}`;
}
