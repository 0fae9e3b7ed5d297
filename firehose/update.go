package firehose

import "maps"

// Update merges an update into the document by the service's rules and checks the result. changed is false
// where document and secrets are what they were: then the stream keeps its version. The caller has compared
// version and destination id with the stream's before. Errors are of type *Error.
func (d *Document) Update(u *Update, secrets Secrets) (next *Document, nextSecrets Secrets, changed bool, err error) {
	kind, member, err := d.updated(u)
	if err != nil {
		return nil, Secrets{}, false, err
	}
	change := configured(clone(u.tree.sub(member)))
	next = &Document{kind: kind, hint: d.hint, from: d.from}
	switch {
	case len(change) == 0 && kind == d.kind:
		return d, secrets, false, nil
	case kind == d.kind:
		if err := d.mayBecome(change); err != nil {
			return nil, Secrets{}, false, err
		}
		next.conf = clone(d.conf)
		next.merge(change)
		if b := next.conf.sub(backupMember); b != nil && (!b.has("RoleARN") || !b.has("BucketARN")) {
			return nil, Secrets{}, false, invalid("S3BackupUpdate needs RoleARN and BucketARN where the delivery stream has no S3 backup yet.")
		}
	default:
		next.conf = change
		var f Faults
		kind.config.check(change, lowerFirst(member), &f)
		if err := f.Err(); err != nil {
			return nil, Secrets{}, false, invalid("%s has to be complete when it changes the destination type: %s", member, err.(*Error).Message)
		}
	}
	if kind == d.kind {
		nextSecrets = secrets
	}
	nextSecrets = next.takeSecrets(nextSecrets)
	if err := next.complete(nextSecrets); err != nil {
		return nil, Secrets{}, false, err
	}
	return next, nextSecrets, !next.Equal(d) || !nextSecrets.Equal(secrets), nil
}

// updated finds the one update in a request.
func (d *Document) updated(u *Update) (kind *destination, member string, err error) {
	found := 0
	if u.tree.has(plainS3Update) {
		kind, member, found = extendedS3, plainS3Update, 1
		if u.tree.has(extendedS3.update) {
			return nil, "", invalid("Exactly one of s3DestinationUpdate or extendedS3DestinationUpdate must be specified.")
		}
	}
	for _, k := range destinations {
		if u.tree.has(k.update) {
			kind, member, found = k, k.update, found+1
		}
	}
	for _, o := range unsupportedDestinations {
		other := o.kind + "DestinationUpdate"
		switch {
		case !u.tree.has(other):
			continue
		case o.fixed && found == 0:
			return nil, "", errTypeChange(o.kind)
		}
		return nil, "", errUnsupported(other, supportedDestinations)
	}
	switch {
	case found == 0:
		return nil, "", invalid("At least one destination or source configuration update must be provided.")
	case found > 1:
		return nil, "", invalid("Exactly one destination configuration update is supported for a Firehose")
	case kind != d.kind && (kind == httpEndpoint || d.kind == httpEndpoint):
		return nil, "", errTypeChange(httpEndpoint.kind)
	}
	return kind, member, nil
}

func errTypeChange(kind string) error {
	return invalid("Changing the destination type to or from %s is not supported at this time.", kind)
}

// configured renames the members of an update to those of a configuration.
func configured(t tree) tree {
	for from, to := range map[string]string{"S3Update": intermediateMember, "S3BackupUpdate": backupMember} {
		if v, ok := t[from]; ok {
			delete(t, from)
			t[to] = v
		}
	}
	return t
}

// mayBecome refuses changes that are fixed at create time, or go one way only.
func (d *Document) mayBecome(change tree) error {
	if d.kind != httpEndpoint && d.conf.text("S3BackupMode") == enabled && change.text("S3BackupMode") == disabled {
		return invalid("Disabling S3 backup is not currently supported.")
	}
	if p := change.sub(partitioningMember); p.has("Enabled") && p.boolean("Enabled") != d.partitions() {
		return invalid("Dynamic Partitioning cannot be enabled or disabled on an existing delivery stream.")
	}
	before, after := d.conf.sub(processingMember), change.sub(processingMember)
	if has(after, decompression) && !has(before, decompression) && !has(before, lambda) {
		return invalid("Enabling source decompression is not supported for existing stream with no Lambda function attached.")
	}
	return nil
}

func has(processing tree, kind string) bool {
	for _, p := range processing.list("Processors") {
		if p, ok := p.(tree); ok && p.text("Type") == kind {
			return true
		}
	}
	return false
}

// merge takes over the members of a change; those that are absent stay. Most members are replaced as they are
// given.
func (d *Document) merge(change tree) {
	for name, v := range change {
		v, _ := v.(tree)
		switch name {
		case bufferingMember, "RetryOptions", "RequestConfiguration", "EndpointConfiguration":
			maps.Copy(d.conf.into(name), v)
		case partitioningMember:
			if v.has("RetryOptions") {
				maps.Copy(d.conf.into(name).into("RetryOptions"), v.sub("RetryOptions"))
			}
		case conversionMember:
			v.fill("Enabled", true)
			maps.Copy(d.conf.into(name), v)
		case processingMember:
			v.fill("Enabled", d.conf.sub(name).boolean("Enabled"))
			d.conf[name] = v
		case backupMember, intermediateMember:
			mergeS3(d.conf.into(name), v)
		default:
			d.conf[name] = change[name]
		}
	}
}

func mergeS3(into, change tree) {
	for name, v := range change {
		if name == bufferingMember {
			maps.Copy(into.into(name), v.(tree))
			continue
		}
		into[name] = v
	}
}
