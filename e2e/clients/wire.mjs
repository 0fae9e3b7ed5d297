// What the AWS SDK for JavaScript makes of answers: wire.mjs NODE_MODULES ENDPOINT STREAM, where STREAM takes 2 records a
// second.
import { createRequire } from 'node:module';

const [modules, endpoint, stream] = process.argv.slice(2);
const require = createRequire(modules + '/');
const sdk = require('@aws-sdk/client-firehose');
const make = (maxAttempts) => new sdk.FirehoseClient({
  endpoint, region: 'us-east-1', maxAttempts, credentials: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'secret' } });
const check = (ok, what) => { if (!ok) throw new Error(JSON.stringify(what)); };
const once = make(1), patient = make(5);
const call = (client, operation, input) => client.send(new sdk[operation + 'Command']({ DeliveryStreamName: stream, ...input }));
const refused = async (name, status, promise) => {
  let e;
  try { check(false, await promise); } catch (caught) { e = caught; }
  const seen = { wanted: name, got: e.name, message: e.message, meta: e.$metadata };
  check(e.name === name && e.message && e.$metadata?.httpStatusCode === status && e.$metadata?.requestId?.length === 36, seen);
  check(sdk[name] === undefined || e instanceof sdk[name], seen);
};
const Record = { Data: Buffer.from('row\n') };

const described = await call(once, 'DescribeDeliveryStream');
const age = Date.now() - described.DeliveryStreamDescription.CreateTimestamp.getTime();
check(described.$metadata.requestId.length === 36 && age >= 0 && age < 3600e3, described);
await refused('ResourceNotFoundException', 400, call(once, 'PutRecord', { DeliveryStreamName: 'nobody', Record }));
await refused('InvalidArgumentException', 400, call(once, 'DeleteDeliveryStream'));
await refused('ValidationException', 400, call(once, 'PutRecordBatch', { Records: Array(501).fill(Record) }));

// Over the rate records are refused; a retry brings one in.
const drain = () => call(once, 'PutRecordBatch', { Records: Array(30).fill(Record) });
const drained = await drain();
check(drained.FailedPutCount >= 20 && drained.RequestResponses.filter((r) => r.ErrorCode === 'ServiceUnavailableException').length === drained.FailedPutCount, drained);
await refused('ServiceUnavailableException', 503, (async () => {
  for (let i = 0; i < 50; i++) await call(once, 'PutRecord', { Record });
})());
let attempts = 1;
for (let i = 0; i < 10 && attempts === 1; i++) {
  await drain();
  attempts = (await call(patient, 'PutRecord', { Record })).$metadata.attempts;
}
check(attempts > 1, 'no call was repeated');
