// node table.mjs RESULTS: medians of the rounds, chatd beside the Node reference, and the targets, in Markdown.
import { readFileSync } from 'node:fs';

const rows = readFileSync(process.argv[2], 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line));
const SIDES = ['chatd', 'node'];
const SERVICES = ['kafka', 'postgres', 'redis'];

const median = (numbers) => {
  const sorted = numbers.filter(Number.isFinite).sort((a, b) => a - b);
  if (sorted.length === 0) return NaN;
  const middle = sorted.length / 2;
  return sorted.length % 2 ? sorted[Math.floor(middle)] : (sorted[middle - 1] + sorted[middle]) / 2;
};

/** The median over the rounds of what `of` takes from each report. */
const both = (part, key, of) =>
  SIDES.map((side) => median(rows.filter((r) => r.part === part && r.key === key && r.side === side).map((r) => of(r.report, side))));
const keys = (part) => [...new Set(rows.filter((r) => r.part === part).map((r) => r.key))];

const cpu = (uses, names) => names.reduce((sum, name) => sum + (uses.processes[name]?.cpu_us ?? 0), 0);
const own = (uses, side) => cpu(uses, [side]);
const all = (uses, side) => cpu(uses, [side, ...SERVICES]);
const each = (uses, total) => total / Math.max(uses.units, 1);

const round = (n) => (!Number.isFinite(n) ? '-' : Math.abs(n) >= 100 ? n.toFixed(0) : Math.abs(n) >= 10 ? n.toFixed(1) : n.toPrecision(2));
const lines = [];
/** `ok` is told chatd's and the reference's median. */
function line(name, [chatd, node], target = '', ok = undefined) {
  const verdict = ok === undefined || !Number.isFinite(chatd) ? '' : ok(chatd, node) ? 'PASS' : 'MISS';
  lines.push(`| ${name} | ${round(chatd)} | ${round(node)} | ${round(chatd / node)} | ${target} | ${verdict} |`);
}
const ratio = (most) => (chatd, node) => chatd / node <= most;
const below = (most) => (chatd) => chatd < most;

for (const rate of keys('load')) {
  const at = (of) => both('load', rate, of);
  const target = rate === '2000' || rate === '4000';
  const latency = rate === '800' || rate === '2000';
  const noWorse = latency ? ['≤ the reference', ratio(1)] : [];
  line(`${rate}/s: accepted p50, ms`, at((r) => r.accepted.p50_ms));
  line(`${rate}/s: accepted p99, ms`, at((r) => r.accepted.p99_ms));
  line(`${rate}/s: delivered p50, ms`, at((r) => r.delivered.p50_ms), ...noWorse);
  line(`${rate}/s: delivered p99, ms`, at((r) => r.delivered.p99_ms), ...noWorse);
  const faults = (r) => ['lost', 'duplicated', 'two_seqs', 'out_of_order', 'sends_reordered', 'two_ids', 'errors']
    .reduce((sum, name) => sum + (r.counts[name] ?? 0), 0);
  line(`${rate}/s: lost, twice, out of order, refused`, at(faults), '0', (chatd) => chatd === 0);
  line(`${rate}/s: CPU-µs a message, own processes`, at((r, s) => each(r.uses, own(r.uses, s))), ...(target ? ['≤ 1/4', ratio(0.25)] : []));
  line(`${rate}/s: CPU-µs a message, all processes`, at((r, s) => each(r.uses, all(r.uses, s))), ...(target ? ['≤ 1/2', ratio(0.5)] : []));
  for (const name of SERVICES) line(`${rate}/s: CPU-µs a message, ${name}`, at((r) => each(r.uses, cpu(r.uses, [name]))));
  line(`${rate}/s: statements a message`, at((r) => each(r.uses, r.uses.statements)), ...(rate === '2000' ? ['< 0.25', below(0.25)] : []));
  line(`${rate}/s: PostgreSQL log, bytes a message`, at((r) => each(r.uses, r.uses.wal_bytes)));
  line(`${rate}/s: Redis commands a message`, at((r) => each(r.uses, r.uses.redis.commands ?? 0)), ...(rate === '2000' ? ['< 1', below(1)] : []));
  line(`${rate}/s: Redis bytes a message, in and out`, at((r) => each(r.uses, (r.uses.redis.bytes_in ?? 0) + (r.uses.redis.bytes_out ?? 0))));
  line(`${rate}/s: RSS of own processes, MiB`, at((r, s) => r.uses.processes[s].rss_bytes / 2 ** 20));
  line(`${rate}/s: driver, CPU-µs a message`, at((r) => each(r.uses, r.uses.driver_cpu_us)));
}
if (keys('max').length > 0) {
  // Each round has many steps: its result is the highest good one.
  const best = SIDES.map((side) => {
    const good = new Map();
    for (const r of rows.filter((row) => row.part === 'max' && row.side === side)) {
      good.set(r.round, Math.max(good.get(r.round) ?? 0, r.report.good ? r.report.rate : 0));
    }
    return median([...good.values()]);
  });
  line('highest rate with delivered p99 ≤ 50 ms, nothing lost, messages/s', best, '≥ 2×', (chatd, node) => chatd >= 2 * node);
}
if (keys('backlog').length > 0) {
  const at = (of) => both('backlog', '', of);
  line('backlog: records/s', at((r) => r.rate), '≥ 20,000', (chatd) => chatd >= 20_000);
  line('backlog: lost or twice', at((r) => r.counts.lost + r.counts.duplicated + r.counts.two_seqs), '0', (chatd) => chatd === 0);
  line('backlog: s until the first / starting', at((r) => r.first_seconds));
  line('backlog: s until the last', at((r) => r.last_seconds));
}
for (const connections of keys('history')) {
  const at = (of) => both('history', connections, of);
  const name = `GET /messages?limit=50, ${connections} connection${connections === '1' ? '' : 's'}`;
  const serves = (r, s) => each(r.uses, own(r.uses, s));
  line(`${name}: CPU-µs a request, own processes`, at(serves), '≤ 1/3', ratio(1 / 3));
  line(`${name}: CPU-µs a request, PostgreSQL`, at((r) => each(r.uses, cpu(r.uses, ['postgres']))), '≤ the reference', ratio(1));
  line(`${name}: statements a request`, at((r) => each(r.uses, r.uses.statements)));
  line(`${name}: requests/s`, at((r) => r.rate));
  line(`${name}: p50, ms`, at((r) => r.latency.p50_ms));
  line(`${name}: bytes`, at((r) => r.page_bytes));
}
for (const count of keys('idle')) {
  const at = (of) => both('idle', count, of);
  const name = `${count} idle sockets`;
  line(`${name}: RSS of the server, MiB`, at((r) => r.rss_bytes_open / 2 ** 20));
  line(`${name}: KiB a connection`, at((r) => (r.rss_bytes_open - r.rss_bytes_before) / 1024 / r.connections));
  line(`${name}: CPU of own processes over 30 s, s`, at((r, s) => (own(r.uses, s) / 1e6 / r.uses.seconds) * 30), '≤ 1/2', ratio(0.5));
  line(`${name}: CPU of Redis over 30 s, s`, at((r) => (cpu(r.uses, ['redis']) / 1e6 / r.uses.seconds) * 30));
  line(`${name}: CPU of Kafka over 30 s, s`, at((r) => (cpu(r.uses, ['kafka']) / 1e6 / r.uses.seconds) * 30));
  line(`${name}: CPU of PostgreSQL over 30 s, s`, at((r) => (cpu(r.uses, ['postgres']) / 1e6 / r.uses.seconds) * 30));
  line(`${name}: Redis commands a second`, at((r) => (r.uses.redis.commands ?? 0) / r.uses.seconds));
}

const rounds = Math.max(0, ...rows.map((r) => r.round));
const loads = rows.map((r) => r.load);
console.log(`Medians of ${rounds} round(s). Load average while measuring: ${round(Math.min(...loads))} to ${round(Math.max(...loads))}.\n`);
console.log('| | chatd | reference | chatd / reference | target | |\n|---|---|---|---|---|---|');
console.log(lines.join('\n'));
