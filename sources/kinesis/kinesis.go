// Package kinesis reads the shards of a Kinesis data stream into an Inlet.
//
// Records flow in by GetRecords, or by enhanced fan-out, each shard in order, a shard's parents before it; records that
// producers packed into one are unpacked. They flow out as rows with the position that follows them. After a crash reading
// goes on at the position that became durable with the rows, so that nothing is missing and nothing comes twice; where a
// table shares shards between processes, what was delivered is committed there, and another process goes on after that.
package kinesis
