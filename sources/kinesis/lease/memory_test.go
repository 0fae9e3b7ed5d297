package lease

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// memory is a DynamoDB of one table, which parses and evaluates the conditions and updates that it gets. Safe for concurrent use.
type memory struct {
	mu     sync.Mutex
	exists bool
	items  map[string]map[string]types.AttributeValue
	writes []written // accepted ones, in order
	page   int       // items of a page of a scan; 0: all
}

// written is an accepted write: the item before and after it; nil: there was, or is, none.
type written struct {
	before, after map[string]types.AttributeValue
}

var _ API = (*memory)(nil)

func newMemory() *memory {
	return &memory{exists: true, items: map[string]map[string]types.AttributeValue{}}
}

var errNoTable = &types.ResourceNotFoundException{Message: aws.String("there is no such table")}

func conflict() error {
	return &types.ConditionalCheckFailedException{Message: aws.String("The conditional request failed")}
}

func (m *memory) Scan(_ context.Context, in *dynamodb.ScanInput, _ ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.exists {
		return nil, errNoTable
	}
	out := &dynamodb.ScanOutput{}
	for _, key := range slices.Backward(slices.Sorted(maps.Keys(m.items))) { // children before their parents
		if start := in.ExclusiveStartKey; len(start) > 0 && key >= start[attrKey].(*types.AttributeValueMemberS).Value {
			continue
		}
		if m.page > 0 && len(out.Items) == m.page {
			out.LastEvaluatedKey = map[string]types.AttributeValue{attrKey: out.Items[m.page-1][attrKey]}
			break
		}
		out.Items = append(out.Items, maps.Clone(m.items[key]))
	}
	return out, nil
}

func (m *memory) GetItem(_ context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.exists {
		return nil, errNoTable
	}
	return &dynamodb.GetItemOutput{Item: maps.Clone(m.items[keyIn(in.Key)])}, nil
}

func (m *memory) PutItem(_ context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	_, err := m.write(keyIn(in.Item), in.ConditionExpression, in.ExpressionAttributeValues, func(map[string]types.AttributeValue) (map[string]types.AttributeValue, error) {
		return maps.Clone(in.Item), nil
	})
	return &dynamodb.PutItemOutput{}, err
}

func (m *memory) UpdateItem(_ context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	after, err := m.write(keyIn(in.Key), in.ConditionExpression, in.ExpressionAttributeValues, func(before map[string]types.AttributeValue) (map[string]types.AttributeValue, error) {
		if before == nil { // an update makes an item, as the service does
			before = maps.Clone(in.Key)
		}
		return updated(before, *in.UpdateExpression, in.ExpressionAttributeValues)
	})
	if err != nil {
		return nil, err
	}
	return &dynamodb.UpdateItemOutput{Attributes: after}, nil
}

func (m *memory) DeleteItem(_ context.Context, in *dynamodb.DeleteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	_, err := m.write(keyIn(in.Key), in.ConditionExpression, in.ExpressionAttributeValues, func(map[string]types.AttributeValue) (map[string]types.AttributeValue, error) {
		return nil, nil
	})
	return &dynamodb.DeleteItemOutput{}, err
}

func (m *memory) DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.exists {
		return nil, errNoTable
	}
	return &dynamodb.DescribeTableOutput{Table: &types.TableDescription{TableStatus: types.TableStatusActive}}, nil
}

func (m *memory) CreateTable(_ context.Context, in *dynamodb.CreateTableInput, _ ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.exists {
		return nil, &types.ResourceInUseException{}
	}
	if in.BillingMode != types.BillingModePayPerRequest || len(in.KeySchema) != 1 || *in.KeySchema[0].AttributeName != attrKey {
		return nil, fmt.Errorf("not the table that a KCL would make: %+v", in)
	}
	m.exists = true
	return &dynamodb.CreateTableOutput{}, nil
}

func keyIn(av map[string]types.AttributeValue) string {
	return av[attrKey].(*types.AttributeValueMemberS).Value
}

// write replaces an item by what change makes of it, if the condition holds.
func (m *memory) write(key string, condition *string, values map[string]types.AttributeValue, change func(map[string]types.AttributeValue) (map[string]types.AttributeValue, error)) (map[string]types.AttributeValue, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.exists {
		return nil, errNoTable
	}
	if condition == nil {
		return nil, errors.New("a write without a condition")
	}
	before := m.items[key]
	ok, err := holds(*condition, before, values)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, conflict()
	}
	after, err := change(maps.Clone(before))
	if err != nil {
		return nil, err
	}
	if after == nil {
		delete(m.items, key)
	} else {
		m.items[key] = after
	}
	m.writes = append(m.writes, written{before, after})
	return maps.Clone(after), nil
}

// holds evaluates a condition: comparisons by =, attribute_exists, attribute_not_exists, AND, OR and parentheses.
func holds(condition string, item, values map[string]types.AttributeValue) (bool, error) {
	for _, s := range []string{"(", ")", "=", ","} {
		condition = strings.ReplaceAll(condition, s, " "+s+" ")
	}
	p := conditionParser{words: strings.Fields(condition), item: item, values: values}
	v := p.or()
	if p.err == nil && len(p.words) > 0 {
		p.err = fmt.Errorf("condition %q: %q is too much", condition, p.words)
	}
	return v, p.err
}

type conditionParser struct {
	words        []string
	item, values map[string]types.AttributeValue
	err          error
}

func (p *conditionParser) next() string {
	if len(p.words) == 0 {
		p.err = errors.New("a condition ends early")
		return ""
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

func (p *conditionParser) expect(w string) {
	if got := p.next(); got != w && p.err == nil {
		p.err = fmt.Errorf("a condition has %q where %q was expected", got, w)
	}
}

func (p *conditionParser) at(w string) bool {
	return p.err == nil && len(p.words) > 0 && p.words[0] == w
}

func (p *conditionParser) or() bool {
	v := p.and()
	for p.at("OR") {
		p.next()
		w := p.and()
		v = v || w
	}
	return v
}

func (p *conditionParser) and() bool {
	v := p.term()
	for p.at("AND") {
		p.next()
		w := p.term()
		v = v && w
	}
	return v
}

func (p *conditionParser) term() bool {
	switch w := p.next(); w {
	case "(":
		v := p.or()
		p.expect(")")
		return v
	case "attribute_exists", "attribute_not_exists":
		p.expect("(")
		_, there := p.item[p.next()]
		p.expect(")")
		return there == (w == "attribute_exists")
	default:
		p.expect("=")
		a, b := p.operand(w), p.operand(p.next())
		return a != nil && b != nil && shown(a) == shown(b)
	}
}

func (p *conditionParser) operand(w string) types.AttributeValue {
	if !strings.HasPrefix(w, ":") {
		return p.item[w]
	}
	v, ok := p.values[w]
	if !ok && p.err == nil {
		p.err = fmt.Errorf("a condition names %s, which is not given", w)
	}
	return v
}

// shown is a value as text, with its type.
func shown(v types.AttributeValue) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case *types.AttributeValueMemberS:
		return "S" + v.Value
	case *types.AttributeValueMemberN:
		return "N" + v.Value
	case *types.AttributeValueMemberSS:
		return "SS" + strings.Join(slices.Sorted(slices.Values(v.Value)), ",")
	}
	return fmt.Sprintf("%T %v", v, v)
}

// updated applies an update: SET a = :v, ... REMOVE a, ... ADD a :n, ...
func updated(item map[string]types.AttributeValue, update string, values map[string]types.AttributeValue) (map[string]types.AttributeValue, error) {
	clause := ""
	words := strings.Fields(strings.ReplaceAll(strings.ReplaceAll(update, ",", " "), "=", " "))
	value := func(name string) (types.AttributeValue, error) {
		if v, ok := values[name]; ok {
			return v, nil
		}
		return nil, fmt.Errorf("update %q names %s, which is not given", update, name)
	}
	for len(words) > 0 {
		switch words[0] {
		case "SET", "REMOVE", "ADD":
			clause, words = words[0], words[1:]
			continue
		}
		attribute := words[0]
		if clause == "REMOVE" {
			delete(item, attribute)
			words = words[1:]
			continue
		}
		if clause == "" || len(words) < 2 {
			return nil, fmt.Errorf("update %q cannot be read", update)
		}
		v, err := value(words[1])
		if err != nil {
			return nil, err
		}
		words = words[2:]
		if clause == "ADD" {
			sum := new(big.Int)
			for _, n := range []types.AttributeValue{item[attribute], v} {
				if n, ok := n.(*types.AttributeValueMemberN); ok {
					i, _ := new(big.Int).SetString(n.Value, 10)
					sum.Add(sum, i)
				}
			}
			v = &types.AttributeValueMemberN{Value: sum.String()}
		}
		item[attribute] = v
	}
	return item, nil
}

// faulty is a client of a memory with a connection of its own, which can be slow, lose answers and be cut.
type faulty struct {
	API
	// call says what becomes of a call: how long it takes to get there, whether it gets there, how long the answer takes and
	// whether that comes.
	call func(op string) (there time.Duration, arrives bool, back time.Duration, answered bool)
	late sync.WaitGroup // calls whose caller did not wait
}

var errCut = errors.New("the connection was cut")

// over makes a call over the connection. A caller that gives up does not call back what was sent.
func over[O any](ctx context.Context, f *faulty, op string, do func() (O, error)) (O, error) {
	there, arrives, back, answered := f.call(op)
	type answer struct {
		out O
		err error
	}
	answers := make(chan answer, 1)
	f.late.Go(func() {
		var none O
		time.Sleep(there)
		if !arrives {
			answers <- answer{none, errCut}
			return
		}
		out, err := do()
		time.Sleep(back)
		if !answered {
			out, err = none, errCut
		}
		answers <- answer{out, err}
	})
	select {
	case a := <-answers:
		return a.out, a.err
	case <-ctx.Done():
		var none O
		return none, ctx.Err()
	}
}

func (f *faulty) Scan(ctx context.Context, in *dynamodb.ScanInput, _ ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	copied := *in
	return over(ctx, f, "scan", func() (*dynamodb.ScanOutput, error) { return f.API.Scan(context.Background(), &copied) })
}

func (f *faulty) GetItem(ctx context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	return over(ctx, f, "get", func() (*dynamodb.GetItemOutput, error) { return f.API.GetItem(context.Background(), in) })
}

func (f *faulty) PutItem(ctx context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	return over(ctx, f, "put", func() (*dynamodb.PutItemOutput, error) { return f.API.PutItem(context.Background(), in) })
}

func (f *faulty) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	return over(ctx, f, "update", func() (*dynamodb.UpdateItemOutput, error) { return f.API.UpdateItem(context.Background(), in) })
}

func (f *faulty) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	return over(ctx, f, "delete", func() (*dynamodb.DeleteItemOutput, error) { return f.API.DeleteItem(context.Background(), in) })
}
