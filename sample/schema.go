package sample

// The declared schemas of the data sets, as DDL that format.ParseDDL reads.

// ClicksSchema declares all twenty fields of the clickstream: 30 columns that hold values.
const ClicksSchema = `event_id string, event_type string, event_time timestamp, received_at timestamp, user_id string,
session_id string, is_bot boolean, ip string, user_agent string, url string, referrer string, title string,
status int, latency_ms double, bytes_sent bigint, revenue double,
device struct<type:string,os:string,os_version:string,screen:struct<w:int,h:int>,dpr:double>,
geo struct<country:string,city:string,lat:double,lon:double>,
tags array<string>, items array<struct<sku:string,qty:int,price:double>>`

// FlightsSchema declares the flights. The date is no timestamp: its form, 2001/01/01 00:01, is one that
// deserializers take only when they are told.
const FlightsSchema = `date string, delay int, distance int, origin string, destination string`

// WebhooksSchema declares a part of what GitHub's webhooks hold, 132 columns with values: most of the input
// is validated and passed over.
const WebhooksSchema = `action string, sender ` + webhookUser + `, repository ` + webhookRepository + `,
organization struct<login:string,id:bigint,url:string>, installation struct<id:bigint,node_id:string>,
issue struct<id:bigint,number:bigint,title:string,state:string,body:string,user:` + webhookUser + `,
labels:array<struct<id:bigint,name:string,color:string>>,comments:bigint,created_at:string,updated_at:string>,
comment struct<id:bigint,body:string,user:` + webhookUser + `,created_at:string>,
pull_request struct<id:bigint,number:bigint,title:string,state:string,body:string,user:` + webhookUser + `,draft:boolean,
merged:boolean,additions:bigint,deletions:bigint,changed_files:bigint,
head:struct<ref:string,sha:string,repo:` + webhookRepository + `>,base:struct<ref:string,sha:string,repo:` + webhookRepository + `>>,
ref string, before string, after string, compare string,
commits array<struct<id:string,message:string,timestamp:string,url:string>>`

const (
	webhookUser       = `struct<login:string,id:bigint,node_id:string,type:string,site_admin:boolean,url:string>`
	webhookRepository = `struct<id:bigint,node_id:string,name:string,full_name:string,private:boolean,owner:` + webhookUser + `,
html_url:string,description:string,fork:boolean,url:string,clone_url:string,language:string,default_branch:string,
size:bigint,stargazers_count:bigint,forks_count:bigint,open_issues_count:bigint>`
)
