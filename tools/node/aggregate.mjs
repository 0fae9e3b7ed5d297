// Packs records as the Kinesis Producer Library does: from standard input a JSON array of {partitionKey, explicitHashKey?, data},
// to standard output the record, in base64.
import { createRequire } from 'node:module';

const { RecordAggregator } = createRequire(import.meta.url)('aws-kinesis-agg');
let text = '';
for await (const chunk of process.stdin) text += chunk;
const packer = new RecordAggregator();
for (const record of JSON.parse(text)) {
	if (packer.addUserRecord(record)) throw new Error('too many records for one');
}
const packed = packer.build();
process.stdout.write(Buffer.from(packed.data, 'base64').toString('base64'));
