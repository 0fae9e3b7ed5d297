// A transformation function for Firehose. What it does with a record, the one in function.go does too.
export const handler = async (event) => {
  const records = event.records.map((record) => {
    const text = Buffer.from(record.data, "base64").toString("utf8");
    let item;
    try {
      item = JSON.parse(text);
    } catch {
      return { recordId: record.recordId, result: "ProcessingFailed", data: record.data };
    }
    if (item.fail) {
      throw new Error(item.fail);
    }
    if (item.type === "heartbeat") {
      return { recordId: record.recordId, result: "Dropped" };
    }
    const out = {
      id: record.recordId,
      arrived: record.approximateArrivalTimestamp,
      stream: event.deliveryStreamArn,
      region: event.region,
      text: (item.text ?? "").toUpperCase(),
      filler: "x".repeat(item.grow ?? 0),
    };
    return {
      recordId: record.recordId,
      result: "Ok",
      data: Buffer.from(JSON.stringify(out) + "\n").toString("base64"),
      metadata: { partitionKeys: { customer: item.customer ?? "none" } },
    };
  });
  return { records };
};
