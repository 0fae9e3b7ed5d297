// Package config is the shape of Hydrant's configuration file.
//
// The text of a YAML file and the environment flow in; a checked Config flows out, or every fault of the
// file at once, each with its line, column and path. The struct tags of this file are the only place in
// which a key, its default and its limits are written down: the decoder, the JSON Schema and the
// reference in docs/configuration.md are all made from them, and the comments are the reference's text.
//
// Nothing here touches a data directory. What a stream leaves behind in one is Stream.Spec: the stream
// in canonical JSON without its secrets, so that a later process can work off what an earlier one
// accepted, whatever the file says by then.
package config

// Config is a whole file.
type Config struct {
	// Directory of the journal and of the packs that wait for delivery. It is created where it is missing
	// and locked by one process. A relative path starts at the working directory of the process.
	DataDir string `key:"data_dir" default:"./hydrant-data" restart:"true"`
	// What to do when acknowledged bytes in the data directory turn out to be damaged: `quarantine` copies
	// them aside, counts them in `hydrant_unaccounted_records` and goes on; `stop` refuses to start.
	OnDamage string `key:"on_damage" default:"quarantine" enum:"quarantine|stop" restart:"true"`
	// Upper bounds of what the process uses. At a bound puts are refused with 503 and nothing is lost.
	Limits Limits `key:"limits"`
	// What happens on SIGTERM and SIGINT.
	Stop Stop `key:"stop"`
	// Encryption of the journal and of packs in data_dir. It can be turned on, changed and turned off at any start.
	Encryption AtRest `key:"encryption" restart:"true"`
	// Whether the file is looked at every second and reloaded when it has changed; SIGHUP always reloads it. See
	// docs/reload.md.
	Watch bool `key:"watch" default:"false"`
	// The log, on standard error.
	Log Log `key:"log"`
	// What an API request or an ARN cannot say.
	AWS AWS `key:"aws"`
	// The listener of the Firehose API.
	API API `key:"api"`
	// The listener of metrics, health, the status page and the admin API.
	Admin Admin `key:"admin"`
	// The delivery streams. `[]` is allowed: what earlier streams left behind is delivered.
	Streams []Stream `key:"streams" required:"true"`
}

// Limits of the process.
type Limits struct {
	// Memory of the whole process; the Go runtime's own limit (GOMEMLIMIT) follows it.
	Memory Bytes `key:"memory" default:"512MiB" min:"128MiB" max:"1024GiB" restart:"true"`
	// Disk used under data_dir: the journal's ring (a twentieth, between 64MiB and 1GiB) and the packs.
	Disk Bytes `key:"disk" default:"20GiB" min:"128MiB" max:"1048576GiB" restart:"true"`
}

// Stop is how the process ends.
type Stop struct {
	// Time to go on delivering after a signal. `0s` leaves the backlog on disk for the next start. When the
	// time is over and something is left, the exit code is 1.
	Drain Duration `key:"drain" default:"0s" min:"0s" max:"24h"`
}

// AtRest is encryption of the data directory.
type AtRest struct {
	// File of the key under which new files are encrypted with AES-256-GCM: 32 random bytes as they are, as 64
	// hexadecimal digits or in base64. It is read when the process starts. Empty: new files are not encrypted.
	KeyFile string `key:"key_file" default:""`
	// Files of keys that older files of data_dir were encrypted under. They are needed until nothing is left of those
	// files, which `hydrant_encryption_files` and `hydrant inspect journal` show.
	PreviousKeyFiles []string `key:"previous_key_files"`
}

// Log settings.
type Log struct {
	// Lowest level that is written.
	Level string `key:"level" default:"info" enum:"debug|info|warn|error"`
	// `text` is one line of key=value pairs, `json` one object a line.
	Format string `key:"format" default:"text" enum:"text|json"`
}

// AWS settings that streams and API answers share.
type AWS struct {
	// Account that ARNs and error messages of the API name.
	AccountID string `key:"account_id" default:"000000000000" pattern:"^[0-9]{12}$" expect:"12 digits"`
	// Region that ARNs name, and of destinations that give none.
	Region string `key:"region" default:"us-east-1" pattern:"^[a-z0-9-]{1,64}$" expect:"a region's name, like us-east-1"`
	// Base URLs of services that are not AWS's own, for whatever gives none itself.
	Endpoints Endpoints `key:"endpoints"`
	// What a RoleARN means, of a stream that is created over the API or of `credentials` in this file: `ignore`
	// delivers without it, shows it in descriptions only, and says so in the log; `assume` assumes the role at
	// `aws.endpoints.sts`.
	RoleARNs string `key:"role_arns" default:"ignore" enum:"ignore|assume"`
}

// Endpoints of services; empty is AWS's own.
type Endpoints struct {
	// S3 or a compatible store.
	S3 string `key:"s3" default:"" url:"true"`
	// STS, which `credentials.role_arn` is assumed at.
	STS string `key:"sts" default:"" url:"true"`
	// Glue, or a catalog that speaks its protocol, which schemas come from.
	Glue string `key:"glue" default:"" url:"true"`

	// Lambda, or a service that speaks its API, which functions of transforms are called at.
	Lambda string `key:"lambda" default:"" url:"true"`

	// Kinesis, or a service that speaks its API, which data streams are read from.
	Kinesis string `key:"kinesis" default:"" url:"true"`
	// DynamoDB, or a service that speaks its API, where replicas share the shards of data streams.
	DynamoDB string `key:"dynamodb" default:"" url:"true"`
}

// API is the listener of the Firehose API.
type API struct {
	// Address, or a list of addresses: host:port, or `unix:/path` for a Unix socket that only the daemon's own user
	// may connect to (`unix:/path?mode=0660` for others too). Where other machines can reach an address, `auth` is
	// needed. Port 0 takes a free one.
	Listen Listen `key:"listen" default:"127.0.0.1:4573" restart:"true"`
	// Whether streams can be created, changed and deleted over the API: with `read_only` they can be described
	// and listed.
	ControlPlane string `key:"control_plane" default:"read_write" enum:"read_write|read_only" restart:"true"`
	// TLS on the host:port addresses.
	TLS TLS `key:"tls" restart:"true"`
	// Who may call: keys and tokens, or `none` for everybody. Needed where other machines can reach the listener;
	// without it everybody on this machine may call. See docs/security.md.
	Auth *Auth `key:"auth"`
}

// TLS of a listener. Files that change are read again without a restart.
type TLS struct {
	// File of the certificate, with those of the authorities between, in PEM.
	CertFile string `key:"cert_file" default:""`
	// File of its key, in PEM.
	KeyFile string `key:"key_file" default:""`
	// File of the authorities of client certificates, in PEM. With it only callers are let in that show a certificate
	// of one of them, beside what `auth` asks for.
	ClientCAFile string `key:"client_ca_file" default:""`
	// A self-signed certificate for localhost, 127.0.0.1, ::1 and the machine's name, kept in `tls/cert.pem` in data_dir.
	Auto bool `key:"auto" default:"false"`
}

// Auth is who may call the API.
type Auth struct {
	// The scalar form: nobody is asked.
	Word string `word:"none" with:"several"`
	// Keys that requests are signed with, as AWS's.
	AccessKeys []AccessKey `key:"access_keys"`
	// Bearer tokens, which go in the header Authorization.
	Tokens []Token `key:"tokens"`
}

// AccessKey signs requests.
type AccessKey struct {
	// Id of the access key, which requests name.
	ID string `key:"id" required:"true" pattern:"^[a-zA-Z0-9_-]{1,128}$" expect:"1 to 128 letters, digits, _ or -"`
	// Secret access key.
	Secret Secret `key:"secret"`
	// Session token that requests must carry as well; without one, requests that carry any are refused.
	SessionToken Secret `key:"session_token"`
	// Moment from which the key is refused, as RFC 3339; empty is never.
	Expires string `key:"expires" default:""`
	// Names of streams it is good for; * stands for any characters and ? for one. All streams where none is given.
	Streams []string `key:"streams"`
	// What it may do: any of `put`, `read` (describe, list) and `admin` (create, change, delete), of which none
	// includes another. Only `put` where nothing is given.
	Allow []string `key:"allow"`
}

// Token is a bearer token.
type Token struct {
	// Name in logs, and by which retries of its holder are known. Empty is the name of `token_file`, or `token` and the
	// beginning of the token's SHA-256.
	Name string `key:"name" default:"" pattern:"^[a-zA-Z0-9_.-]{0,128}$" expect:"up to 128 letters, digits, _, . or -"`
	// The token itself.
	Token Secret `key:"token"`
	// Moment from which the token is refused, as RFC 3339; empty is never.
	Expires string `key:"expires" default:""`
	// Names of streams it is good for; * stands for any characters and ? for one. All streams where none is given.
	Streams []string `key:"streams"`
	// What it may do: any of `put`, `read` (describe, list) and `admin` (create, change, delete), of which none
	// includes another. Only `put` where nothing is given.
	Allow []string `key:"allow"`
}

// Admin is the listener for operators.
type Admin struct {
	// Address, or a list of addresses, as `api.listen`.
	Listen Listen `key:"listen" default:"127.0.0.1:4574" restart:"true"`
	// Who may see the status page and call the admin API, or `none` for everybody. Needed where other machines can
	// reach the listener. Health, readiness and metrics never ask for anything.
	Auth *AdminAuth `key:"auth"`
}

// AdminAuth is who may call the admin API.
type AdminAuth struct {
	// The scalar form: nobody is asked.
	Word string `word:"none" with:"several"`
	// Bearer tokens, which browsers send as the password of any user.
	Tokens []AdminToken `key:"tokens"`
}

// AdminToken is a bearer token of the admin API.
type AdminToken struct {
	// Name in logs, and by which retries of its holder are known. Empty is the name of `token_file`, or `token` and the
	// beginning of the token's SHA-256.
	Name string `key:"name" default:"" pattern:"^[a-zA-Z0-9_.-]{0,128}$" expect:"up to 128 letters, digits, _, . or -"`
	// The token itself.
	Token Secret `key:"token"`
	// Moment from which the token is refused, as RFC 3339; empty is never.
	Expires string `key:"expires" default:""`
	// What it may do: `read`, `admin` (flush, pause, resume) or both. Only `read` where nothing is given.
	Allow []string `key:"allow"`
}

// Stream is one delivery stream.
type Stream struct {
	// Name, by which producers address the stream. Unique in the file.
	Name string `key:"name" required:"true" pattern:"^[a-zA-Z0-9_.-]{1,64}$" expect:"1 to 64 letters, digits, _, . or -" spec:"-"`
	// Up to 50 tags; keys of 1 to 128 characters, values of up to 256.
	Tags map[string]string `key:"tags" spec:"-"`
	// Upper bounds of what the stream takes, below those of the process.
	Limits StreamLimits `key:"limits" spec:"-"`
	// Where records come from.
	Source Source `key:"source"`
	// What happens to records before they are written, in order. See docs/transforms.md.
	Transform []Processor `key:"transform"`
	// Which records share objects: partition keys in the prefix, and times that records say themselves. See
	// docs/partitioning.md.
	Partition *Partition `key:"partition"`
	// How records are written into objects.
	Format Format `key:"format"`
	// When what waits is cut into objects: by size or by time, whichever comes first.
	Buffer Buffer `key:"buffer"`
	// Where objects go. Exactly one.
	Destination Destination `key:"destination" required:"true"`
	// Where records go that could not be delivered, in place of the destination's own error output. An http destination
	// needs it.
	Backup *Backup `key:"backup"`

	// Records with what `transform` must make of them, for `hydrant test`.
	Tests []Test `key:"tests" spec:"-"`

	_ later `keys:"exactly_once"`
}

// StreamLimits bound one stream. Nothing that was accepted is lost by them.
type StreamLimits struct {
	// Records that are accepted in a second. What comes in above it is answered with "Slow down.", record by record in
	// a batch, as Firehose does.
	RecordsPerSecond Count `key:"records_per_second" default:"0" min:"1" max:"1000000000" zero:"no limit"`
	// Bytes of records that are accepted in a second, before base64 and compression. A single record may be larger;
	// then as much less is accepted afterwards.
	BytesPerSecond Bytes `key:"bytes_per_second" default:"0" min:"1KiB" max:"1024GiB" zero:"no limit"`
	// Part of `limits.disk` that the stream's waiting records and packs may hold. Above it puts are refused with 503,
	// as at the process's own limit; from half of it on, what waits is delivered early.
	Disk Bytes `key:"disk" default:"0" min:"8MiB" max:"1048576GiB" zero:"no limit"`
}

// Source of a stream's records.
type Source struct {
	_ oneOf `default:"direct_put"`

	// Producers call PutRecord or PutRecordBatch.
	DirectPut *DirectPut `key:"direct_put"`
	// Topics of Apache Kafka, read as a member of a consumer group.
	Kafka *Kafka `key:"kafka"`
	// A Kinesis data stream.
	Kinesis *Kinesis `key:"kinesis"`
}

// DirectPut has no settings.
type DirectPut struct{}

// Format of objects.
type Format struct {
	_ oneOf `default:"text"`

	// Records as they came, one after another.
	Text *Text `key:"text"`
	// Records are JSON documents and become rows of Parquet files.
	Parquet *Parquet `key:"parquet"`
}

// Text objects.
type Text struct {
	// A newline `between` records, `after` each of them, or none at all, which is what Firehose does.
	Delimiter string `key:"delimiter" default:"none" enum:"none|between|after"`
	// Compression of the whole object. `snappy` is framed as snappy-java does it, `hadoop_snappy` as Hadoop does.
	Compression string `key:"compression" default:"none" enum:"none|gzip|zip|snappy|hadoop_snappy|zstd"`
}

// Parquet objects.
type Parquet struct {
	// Columns with their Hive types: a list of "name type" in order, one DDL string, `{ file: F }` or `{ glue: ... }`. The
	// file is Hive DDL, a JSON Schema or a Parquet file. It is read, and the table is looked up, when the configuration is
	// loaded; what they say then is stored with the stream. See docs/schemas.md.
	Schema Schema `key:"schema" required:"true"`
	// How JSON is read.
	Deserializer Deserializer `key:"deserializer"`
	// Compression of pages.
	Compression string `key:"compression" default:"snappy" enum:"snappy|zstd|gzip|none"`
	// `compatible` uses plain and dictionary encodings in version 1 pages, which every reader knows;
	// `modern` uses delta encodings in version 2 pages.
	Encodings string `key:"encodings" default:"compatible" enum:"compatible|modern"`
	// Unit and representation of `timestamp` columns; `int96` is what older Hive and Impala want.
	Timestamps string `key:"timestamps" default:"micros" enum:"micros|millis|int96"`
	// Encoded bytes of a row group. It ends earlier where memory is short.
	RowGroup Bytes `key:"row_group" default:"128MiB" min:"1MiB" max:"1GiB"`
	// Bytes of a page before compression.
	Page Bytes `key:"page" default:"1MiB" min:"4KiB" max:"64MiB"`
	// JSON members that no column takes: they are dropped, make the record fail, or are kept as JSON text
	// in a column of their own.
	UnknownFields UnknownFields `key:"unknown_fields" default:"drop"`

	_ later `keys:"sort_by bloom_filter"`
}

// Glue names a table of a Glue catalog.
type Glue struct {
	// Name of the database.
	Database string `key:"database" required:"true"`
	// Name of the table. Its columns are taken; its partition keys are not in the objects and left out.
	Table string `key:"table" required:"true"`
	// Version of the table. `LATEST` is looked up again at each start and each reload.
	Version string `key:"version" default:"LATEST" pattern:"^(LATEST|[0-9]{1,18})$" expect:"LATEST or a number"`
	// Id of the catalog; empty is that of the account whose credentials are used.
	CatalogID string `key:"catalog_id" default:""`
	// Region of the catalog; empty is `aws.region`.
	Region string `key:"region" default:"" pattern:"^[a-z0-9-]{0,64}$" expect:"a region's name, like us-east-1"`
	// Base URL of the catalog; empty is `aws.endpoints.glue`, and where that is empty too, AWS.
	Endpoint string `key:"endpoint" default:"" url:"true" spec:"-"`
}

// Deserializer reads JSON.
type Deserializer struct {
	_ oneOf `default:"openx"`

	// As Firehose's OpenX JSON SerDe.
	OpenX *OpenX `key:"openx"`
	// As Firehose's Hive JSON SerDe.
	Hive *Hive `key:"hive"`
}

// OpenX options.
type OpenX struct {
	// Member names match column names without regard to case.
	CaseInsensitive bool `key:"case_insensitive" default:"true"`
	// Columns that are read from a member of another name: column to member.
	ColumnToJSONKey map[string]string `key:"column_to_json_key"`
	// A dot in a member's name is read as an underscore.
	DotsToUnderscores bool `key:"dots_to_underscores" default:"false"`
}

// Hive options.
type Hive struct {
	// Joda patterns that timestamps are tried against in order; the word `millis` stands for milliseconds
	// since 1970. Without any, `yyyy-MM-dd HH:mm:ss[.fraction]` is read.
	TimestampFormats []string `key:"timestamp_formats"`
}

// Buffer says when what waits is cut into objects.
type Buffer struct {
	// Bytes of records that make an object, before compression. The default is 128MiB with Parquet and 5MiB
	// otherwise.
	Size Bytes `key:"size" min:"1KiB" max:"5GiB"`
	// Time that the oldest waiting record waits at most. `0s` delivers as soon as records are there, gathered
	// over a tenth of a second.
	Interval Duration `key:"interval" default:"300s" min:"0s" max:"24h"`
	// Written bytes, by estimate, that make an object, instead of `size`: give one of the two. The interval
	// holds all the same.
	FileSize Bytes `key:"file_size" default:"0" min:"1KiB" max:"5GiB" zero:"off"`
}

// Destination of a stream's objects.
type Destination struct {
	_ oneOf

	// Files under a directory.
	File *FileDestination `key:"file"`
	// Objects in a bucket of S3 or a compatible store.
	S3 *S3Destination `key:"s3"`
	// Requests to an HTTP endpoint.
	HTTP *HTTPDestination `key:"http"`
	// Rows of a table of Amazon Redshift, by COPY from objects that are staged in a bucket. See docs/redshift.md.
	Redshift *RedshiftDestination `key:"redshift"`
}

// FileDestination writes files under a directory.
type FileDestination struct {
	// Directory; created where it is missing. A relative path starts at the working directory of the
	// process. It must not lie in data_dir.
	Path string `key:"path" required:"true"`
	// First part of file names, with !{...} expressions; without any, `yyyy/MM/dd/HH/` is appended. See
	// docs/prefixes.md.
	Prefix string `key:"prefix" default:""`
	// The same for what could not be delivered. With expressions it must contain
	// `!{firehose:error-output-type}`.
	ErrorOutputPrefix string `key:"error_output_prefix" default:"errors/!{firehose:error-output-type}/"`
	// IANA time zone of the times in prefixes and file names.
	TimeZone string `key:"time_zone" default:"UTC" zone:"true"`
	// Replaces the extension that the format gives; empty keeps it.
	FileExtension string `key:"file_extension" default:"" pattern:"^$|^\\.[0-9a-z!\\-_.*'()]{1,127}$" expect:"a dot and up to 127 of 0-9 a-z ! - _ . * ' ( )"`
}

// S3Destination writes objects into a bucket.
type S3Destination struct {
	// Name of the bucket, without `s3://`. It must exist.
	Bucket string `key:"bucket" required:"true" pattern:"^[a-zA-Z0-9._-]{3,255}$" expect:"a bucket's name: 3 to 255 letters, digits, ., _ or -"`
	// First part of object keys, with !{...} expressions; without any, `yyyy/MM/dd/HH/` is appended. See
	// docs/prefixes.md.
	Prefix string `key:"prefix" default:""`
	// The same for what could not be delivered. With expressions it must contain
	// `!{firehose:error-output-type}`.
	ErrorOutputPrefix string `key:"error_output_prefix" default:"errors/!{firehose:error-output-type}/"`
	// IANA time zone of the times in prefixes and object names.
	TimeZone string `key:"time_zone" default:"UTC" zone:"true"`
	// Replaces the extension that the format gives; empty keeps it.
	FileExtension string `key:"file_extension" default:"" pattern:"^$|^\\.[0-9a-z!\\-_.*'()]{1,127}$" expect:"a dot and up to 127 of 0-9 a-z ! - _ . * ' ( )"`
	// Region of the bucket; empty is `aws.region`.
	Region string `key:"region" default:"" pattern:"^[a-z0-9-]{0,64}$" expect:"a region's name, like us-east-1"`
	// Base URL of the store; empty is `aws.endpoints.s3`, and where that is empty too, AWS.
	Endpoint string `key:"endpoint" default:"" url:"true"`
	// The bucket's name stands in the path and not in the host's name; `auto` is true on an endpoint that
	// is not AWS's.
	PathStyle string `key:"path_style" default:"auto" enum:"auto|true|false"`
	// Checksum that is sent with uploads. `auto` is CRC-64/NVME on AWS and `when_required` on another
	// endpoint, since older stores refuse checksums that they do not know.
	Checksum string `key:"checksum" default:"auto" enum:"auto|when_required|crc32|crc32c|crc64nvme|sha256|md5"`
	// Credentials; without any, the AWS chain (environment, shared files, container, instance).
	Credentials Credentials `key:"credentials"`
	// Encryption on the server: `none` sends no header, `aes256` asks for SSE-S3, `{ kms: KEY_ARN }` for
	// SSE-KMS.
	Encryption Encryption `key:"encryption" default:"none"`
	// Storage class of objects; empty is the bucket's default.
	StorageClass string `key:"storage_class" default:"" pattern:"^[A-Z0-9_]{0,64}$" expect:"a storage class, like STANDARD_IA"`
	// How long a refusing store is tried before its objects go to the error output.
	RetryDuration RetryDuration `key:"retry_duration" default:"forever"`
}

// Credentials for a store. Either a key, or a profile, or none; `role_arn` is assumed with them. What
// an older version of a stream still has to deliver goes with the present file's credentials.
type Credentials struct {
	// Id of a fixed access key.
	AccessKeyID Secret `key:"access_key_id"`
	// Secret of that key.
	SecretAccessKey Secret `key:"secret_access_key"`
	// Session token, where the key is a temporary one.
	SessionToken Secret `key:"session_token"`
	// Profile of the shared AWS configuration files.
	Profile string `key:"profile" default:""`
	// Role to assume, where `aws.role_arns` is `assume`.
	RoleARN string `key:"role_arn" default:"" pattern:"^$|^arn:[^:]*:iam::[0-9]{12}:role/.+$" expect:"arn:aws:iam::ACCOUNT:role/NAME"`
}

// Encryption of objects by the store.
type Encryption struct {
	// The scalar form, or "kms".
	Word string `word:"none|aes256"`
	// ARN, id or alias of a KMS key.
	KMS string `key:"kms"`
}

// UnknownFields says what becomes of JSON members that no column takes.
type UnknownFields struct {
	// The scalar form, or "column".
	Word string `word:"drop|fail"`
	// Name of a string column that gets them as one JSON object.
	Column string `key:"column"`
}
