// The activity log of BullMQ and TypeORM that the benchmark compares with.
//
// Here: its enqueue side (one job per event) and its processor: jobs collect in a buffer in memory,
// which is written when it holds a batch, 5 s after the last write, and at shutdown; one write at a
// time. Attempts, back-off and what is kept of finished jobs are the configuration of its document.
// The order comes as JSON on standard input; begin and end go as JSON lines to standard output.
"use strict";

const { createHash, randomUUID } = require("node:crypto");
const { readFileSync, writeSync } = require("node:fs");
const { performance } = require("node:perf_hooks");
const { Queue, Worker } = require("bullmq");
const { Redis } = require("ioredis");
const { DataSource, EntitySchema } = require("typeorm");

const QUEUE = "activity-log";
const STORED = "peer:stored";
const FLUSH_AFTER_MS = 5000;
const JOB_OPTIONS = {
  attempts: 3,
  backoff: { type: "exponential", delay: 2000 },
  removeOnComplete: { count: 10 },
  removeOnFail: { age: 24 * 3600 },
};
// The processor computes no hash of an event; the column has to hold something of its size.
const NO_HASH = createHash("sha256").digest();
const TYPES = {
  timestamp: "timestamptz", received_at: "timestamptz", ingested_at: "timestamptz",
  batch_id: "uuid", bulk_action_id: "uuid", producer_epoch: "bigint", producer_seq: "bigint",
  bulk_item_no: "bigint", producer_id: "int", status: "text", actor_type: "text",
  sampled_rate: "real", severity: "smallint", schema_version: "smallint", leaf_hash: "bytea",
  tenant_id: "text", source: "text", action: "text", entity_type: "text", entity_id: "text",
  entity_label: "text", user_id: "text", user_label: "text", impersonator_id: "text",
  correlation_id: "text", trace_id: "text", description: "text", changes: "json",
  metadata: "json", context: "json",
};
// Absent values stay out of the statement: the table has a default or takes null.
const Event = new EntitySchema({
  name: "Event",
  schema: "audit",
  tableName: "event",
  columns: {
    id: { type: "uuid", primary: true, generated: "uuid" },
    ...Object.fromEntries(
      Object.entries(TYPES).map(([name, type]) => [name, { type, nullable: true }]),
    ),
  },
});

function nowMs() {
  return performance.timeOrigin + performance.now();
}

function report(line) {
  writeSync(1, `${JSON.stringify(line)}\n`);
}

function queueOptions(order) {
  const url = new URL(order.redis_url);
  const connection = {
    host: url.hostname,
    port: Number(url.port),
    db: Number(url.pathname.slice(1)),
    username: url.username,
    password: decodeURIComponent(url.password),
    maxRetriesPerRequest: null,
  };
  return { connection, prefix: "peer" };
}

// One job per event, as the queue service of the document makes it; `bulk` sends many at a time.
async function enqueue(order) {
  const lines = readFileSync(order.events, "utf8").trimEnd().split("\n");
  const events = lines.map((line) => JSON.parse(line));
  const queue = new Queue(QUEUE, { ...queueOptions(order), defaultJobOptions: JOB_OPTIONS });
  await queue.waitUntilReady();
  report({ begin_ms: nowMs() });
  for (let start = 0; start < events.length; start += order.at_once) {
    const part = events.slice(start, start + order.at_once);
    if (order.is_bulk) {
      await queue.addBulk(part.map((data) => ({ name: "log", data })));
    } else {
      await Promise.all(part.map((data) => queue.add("log", data)));
    }
  }
  report({ end_ms: nowMs() });
  await queue.close();
}

class Processor {
  constructor(repository, redis, order) {
    this.repository = repository;
    this.redis = redis;
    this.order = order;
    this.buffer = [];
    this.isWriting = false;
    this.isDrained = false;
    this.done = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
    this.timer = setInterval(() => this.flush(1).catch(this.reject), FLUSH_AFTER_MS);
  }

  async process(job) {
    this.buffer.push(job.data);
    await this.flush(this.order.batch);
  }

  // The queue is empty: the last events do not wait for the timer, as at a shutdown.
  drained() {
    this.isDrained = true;
    this.flush(1).catch(this.reject);
  }

  async flush(least) {
    if (this.isWriting) return;
    this.isWriting = true;
    try {
      while (this.buffer.length >= (this.isDrained ? 1 : least)) {
        await this.write(this.buffer.splice(0, this.order.batch));
      }
    } finally {
      this.isWriting = false;
    }
  }

  async write(batch) {
    const now = new Date();
    const batchId = randomUUID();
    const rows = batch.map(({ id, ...event }) => ({
      ...event,
      ...(this.order.is_insert ? { id } : {}),
      actor_type: event.actor_type ?? "user",
      received_at: now,
      ingested_at: now,
      batch_id: batchId,
      leaf_hash: NO_HASH,
    }));
    if (this.order.is_insert) await this.repository.insert(rows);
    else await this.repository.save(rows);
    // Only for the benchmark, and not waited for: all processes together know when it is over.
    const at = nowMs();
    this.redis.incrby(STORED, rows.length).then((total) => {
      if (total >= this.order.events_expected) this.resolve(at);
    }, this.reject);
  }
}

async function processJobs(order) {
  const source = new DataSource({ type: "postgres", url: order.database_url, entities: [Event] });
  await source.initialize();
  const redis = new Redis(queueOptions(order).connection);
  await redis.ping();
  const processor = new Processor(source.getRepository(Event), redis, order);
  report({ begin_ms: nowMs() });
  const worker = new Worker(QUEUE, (job) => processor.process(job), {
    ...queueOptions(order),
    concurrency: order.concurrency,
  });
  worker.on("drained", () => processor.drained());
  worker.on("failed", (_job, error) => processor.reject(error));
  worker.on("error", (error) => processor.reject(error));
  report({ end_ms: await processor.done });
  process.exit(0); // another process may still wait for jobs: the benchmark ends it
}

const order = JSON.parse(readFileSync(0, "utf8"));
(order.command === "enqueue" ? enqueue(order) : processJobs(order)).catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
