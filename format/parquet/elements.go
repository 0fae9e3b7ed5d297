package parquet

import (
	"github.com/parquet-go/parquet-go/deprecated"
	pq "github.com/parquet-go/parquet-go/format"
)

// The annotations of schema elements: each logical type with the older converted type that means the same,
// so that readers of either kind understand it.

func listType(e *pq.SchemaElement) {
	e.ConvertedType.Set(deprecated.List)
	e.LogicalType.Value = &pq.ListType{}
}

func mapType(e *pq.SchemaElement) {
	e.ConvertedType.Set(deprecated.Map)
	e.LogicalType.Value = &pq.MapType{}
}

func mapEntryType(e *pq.SchemaElement) { e.ConvertedType.Set(deprecated.MapKeyValue) }

func setStringType(e *pq.SchemaElement) {
	e.ConvertedType.Set(deprecated.UTF8)
	e.LogicalType.Value = &pq.StringType{}
}

func setDateType(e *pq.SchemaElement) {
	e.ConvertedType.Set(deprecated.Date)
	e.LogicalType.Value = &pq.DateType{}
}

func setIntType(e *pq.SchemaElement, bits int8) {
	converted := deprecated.Int16
	if bits == 8 {
		converted = deprecated.Int8
	}
	e.ConvertedType.Set(converted)
	e.LogicalType.Value = &pq.IntType{BitWidth: bits, IsSigned: true}
}

func setTimestampType(e *pq.SchemaElement, u TimestampUnit) {
	t := &pq.TimestampType{IsAdjustedToUTC: true}
	if u == Millis {
		e.ConvertedType.Set(deprecated.TimestampMillis)
		t.Unit.Value = &pq.MilliSeconds{}
	} else {
		e.ConvertedType.Set(deprecated.TimestampMicros)
		t.Unit.Value = &pq.MicroSeconds{}
	}
	e.LogicalType.Value = t
}

func setDecimalType(e *pq.SchemaElement, precision, scale int) {
	e.ConvertedType.Set(deprecated.Decimal)
	e.Precision.Set(int32(precision))
	e.Scale.Set(int32(scale))
	e.LogicalType.Value = &pq.DecimalType{Precision: int32(precision), Scale: int32(scale)}
}

// decimalWidth is the fewest bytes whose two's complement holds every number of so many decimal digits.
func decimalWidth(precision int) int {
	// 10^p needs p×log2(10) bits and a sign; 217706/65536 is log2(10) rounded up at the 17th bit, exact
	// enough to 38 digits (the test compares with big integers).
	bits := (precision*217706)>>16 + 2
	return (bits + 7) / 8
}
