// Puts the lines of a file as records with the AWS SDK for JavaScript: put.mjs NODE_MODULES ENDPOINT STREAM FILE.
// Prints the record ids, one a line.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const [modules, endpoint, stream, file] = process.argv.slice(2);
const require = createRequire(modules + '/');
const { FirehoseClient, PutRecordBatchCommand, PutRecordCommand, DescribeDeliveryStreamCommand, ListDeliveryStreamsCommand } =
  require('@aws-sdk/client-firehose');

const client = new FirehoseClient({
  endpoint, region: 'us-east-1', maxAttempts: 12,
  credentials: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'secret' },
});
const check = (ok, what) => { if (!ok) throw new Error(JSON.stringify(what)); };

const described = await client.send(new DescribeDeliveryStreamCommand({ DeliveryStreamName: stream }));
check(described.DeliveryStreamDescription.DeliveryStreamStatus === 'ACTIVE', described);
const listed = await client.send(new ListDeliveryStreamsCommand({ Limit: 100 }));
check(listed.DeliveryStreamNames.includes(stream), listed);

// Lines are split as bytes: what is not UTF-8 must arrive as it is.
const bytes = readFileSync(file), lines = [];
for (let at = 0; at < bytes.length;) {
  let end = bytes.indexOf(10, at);
  if (end < 0) end = bytes.length;
  lines.push(bytes.subarray(at, end));
  at = end + 1;
}

const send = async (records) => {
  if (records.length === 1) {
    console.log((await client.send(new PutRecordCommand({ DeliveryStreamName: stream, Record: records[0] }))).RecordId);
    return;
  }
  const answer = await client.send(new PutRecordBatchCommand({ DeliveryStreamName: stream, Records: records }));
  check(answer.FailedPutCount === 0, answer);
  for (const entry of answer.RequestResponses) console.log(entry.RecordId);
};

let batch = [], size = 0;
for (const line of lines) {
  if (batch.length === 500 || size + line.length > 4 << 20) {
    await send(batch);
    batch = [];
    size = 0;
  }
  batch.push({ Data: line });
  size += line.length;
}
if (batch.length > 0) await send(batch);
