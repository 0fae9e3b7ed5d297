// Leads a delivery stream that cannot deliver through its life with the AWS SDK for JavaScript: destination.mjs
// NODE_MODULES ENDPOINT STREAM FORM CONFIGURATION UPDATE FILE, as destination.py does.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

const [modules, endpoint, stream, form, configurationText, updateText, file] = process.argv.slice(2);
const configuration = JSON.parse(configurationText);
const change = JSON.parse(updateText);
const require = createRequire(modules + '/');
const sdk = require('@aws-sdk/client-firehose');
const client = new sdk.FirehoseClient({
  endpoint, region: 'us-east-1', maxAttempts: 5,
  credentials: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'secret' },
});
const call = (operation, input) => client.send(new sdk[operation + 'Command']({ DeliveryStreamName: stream, ...input }));
const describe = async () => (await call('DescribeDeliveryStream')).DeliveryStreamDescription;
const check = (ok, what) => { if (!ok) throw new Error(JSON.stringify(what)); };
const refused = async (name, promise) => {
  try {
    check(false, await promise);
  } catch (e) {
    check(e.name === name, { wanted: name, got: e.name, message: e.message });
  }
};
const renamed = { S3Configuration: 'S3DestinationDescription', S3Update: 'S3DestinationDescription' };
// Everything that was asked for is described, but for what is secret.
const shown = (wanted, got) => {
  for (const [member, value] of Object.entries(wanted)) {
    if (member === 'Password' || member === 'AccessKey') check(!(member in got), got);
    else if (typeof value === 'object') shown(value, got[renamed[member] ?? member]);
    else check(got[member] === value, { member, got });
  }
};

const created = await call('CreateDeliveryStream', { [form + 'DestinationConfiguration']: configuration, Tags: [{ Key: 'by', Value: 'js' }] });
check(created.DeliveryStreamARN.endsWith(':deliverystream/' + stream), created);
await refused('ResourceInUseException', call('CreateDeliveryStream', { [form + 'DestinationConfiguration']: configuration }));

const lines = readFileSync(file, 'utf8').split(/(?<=\n)/);
const half = Math.floor(lines.length / 2);
const put = async (some) => {
  const answer = await call('PutRecordBatch', { Records: some.map((line) => ({ Data: Buffer.from(line) })) });
  check(answer.FailedPutCount === 0, answer);
};
await put(lines.slice(0, half));
let d = await describe();
check(d.DeliveryStreamStatus === 'ACTIVE' && d.VersionId === '1' && d.LastUpdateTimestamp === undefined, d);
shown(configuration, d.Destinations[0][form + 'DestinationDescription']);
const update = (version, members) => call('UpdateDestination', {
  CurrentDeliveryStreamVersionId: version, DestinationId: d.Destinations[0].DestinationId, [form + 'DestinationUpdate']: members });
await update('1', { RetryOptions: configuration.RetryOptions });
check((await describe()).VersionId === '1', d);
await update('1', change);
d = await describe();
check(d.VersionId === '2' && d.LastUpdateTimestamp >= d.CreateTimestamp, d);
shown(change, d.Destinations[0][form + 'DestinationDescription']);
await refused('ConcurrentModificationException', update('1', change));
await put(lines.slice(half));
await call('TagDeliveryStream', { Tags: [{ Key: 'team', Value: 'web' }] });
await call('UntagDeliveryStream', { TagKeys: ['by'] });
const tags = await call('ListTagsForDeliveryStream');
check(tags.Tags.length === 1 && tags.Tags[0].Value === 'web' && tags.HasMoreTags === false, tags);
check((await client.send(new sdk.ListDeliveryStreamsCommand({ Limit: 100 }))).DeliveryStreamNames.includes(stream), stream);

await call('DeleteDeliveryStream');
check((await describe()).DeliveryStreamStatus === 'DELETING', d);
await call('DeleteDeliveryStream', { AllowForceDelete: true });
let gone = false;
for (let i = 0; i < 300 && !gone; i++) {
  try {
    check((await describe()).DeliveryStreamStatus === 'DELETING');
    await pause(100);
  } catch (e) {
    check(e.name === 'ResourceNotFoundException', { name: e.name, message: e.message });
    gone = true;
  }
}
check(gone, 'not gone within 30 s');
