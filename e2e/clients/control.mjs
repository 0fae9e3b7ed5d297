// Leads a delivery stream through its life with the AWS SDK for JavaScript: control.mjs NODE_MODULES ENDPOINT STREAM
// FORM BUCKET FILE, where FORM is S3 or ExtendedS3. Puts the lines of FILE, and deletes the stream, which delivers them.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

const [modules, endpoint, stream, form, bucket, file] = process.argv.slice(2);
const require = createRequire(modules + '/');
const sdk = require('@aws-sdk/client-firehose');
const client = new sdk.FirehoseClient({
  endpoint, region: 'us-east-1', maxAttempts: 5,
  credentials: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'secret' },
});
const call = (operation, input) => client.send(new sdk[operation + 'Command']({ DeliveryStreamName: stream, ...input }));
const describe = async () => (await call('DescribeDeliveryStream')).DeliveryStreamDescription;
const check = (ok, what) => { if (!ok) throw new Error(JSON.stringify(what)); };
const until = async (what, condition) => {
  for (let i = 0; i < 300; i++) {
    if (await condition()) return;
    await pause(100);
  }
  throw new Error('not within 30 s: ' + what);
};
const refused = async (name, promise) => {
  try {
    check(false, await promise);
  } catch (e) {
    check(e.name === name, { wanted: name, got: e.name, message: e.message });
  }
};

const configuration = {
  RoleARN: 'arn:aws:iam::000000000000:role/firehose', BucketARN: 'arn:aws:s3:::' + bucket,
  Prefix: stream + '/', BufferingHints: { SizeInMBs: 1, IntervalInSeconds: 900 },
};
const created = await call('CreateDeliveryStream', { [form + 'DestinationConfiguration']: configuration, Tags: [{ Key: 'by', Value: 'js' }] });
check(created.DeliveryStreamARN.endsWith(':deliverystream/' + stream), created);
await until('ACTIVE', async () => (await describe()).DeliveryStreamStatus === 'ACTIVE');

const lines = readFileSync(file, 'utf8').split(/(?<=\n)/);
const half = Math.floor(lines.length / 2);
const put = async (some) => {
  const answer = await call('PutRecordBatch', { Records: some.map((line) => ({ Data: Buffer.from(line) })) });
  check(answer.FailedPutCount === 0, answer);
};
await put(lines.slice(0, half));
let d = await describe();
check(d.VersionId === '1' && d.LastUpdateTimestamp === undefined && d.CreateTimestamp instanceof Date, d);
const update = (version, members) => call('UpdateDestination', {
  CurrentDeliveryStreamVersionId: version, DestinationId: d.Destinations[0].DestinationId, [form + 'DestinationUpdate']: members });
await update('1', { Prefix: stream + '/new/', CompressionFormat: 'GZIP' });
d = await describe();
check(d.VersionId === '2' && d.LastUpdateTimestamp >= d.CreateTimestamp, d);
for (const key of ['S3DestinationDescription', 'ExtendedS3DestinationDescription']) check(d.Destinations[0][key].Prefix === stream + '/new/', d);
await refused('ConcurrentModificationException', update('1', { Prefix: 'x/' }));
await put(lines.slice(half));
await call('TagDeliveryStream', { Tags: [{ Key: 'team', Value: 'web' }] });
await call('UntagDeliveryStream', { TagKeys: ['by'] });
const tags = await call('ListTagsForDeliveryStream');
check(tags.Tags.length === 1 && tags.Tags[0].Value === 'web' && tags.HasMoreTags === false, tags);
await call('DeleteDeliveryStream');
await until('gone', async () => {
  try {
    check((await describe()).DeliveryStreamStatus === 'DELETING');
    return false;
  } catch (e) {
    check(e.name === 'ResourceNotFoundException', { name: e.name, message: e.message });
    return true;
  }
});
