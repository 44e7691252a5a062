SELECT cdp.identify('{"phone": "138 0000 1234", "member_id": "M-1"}', '{"name": "张三", "nickname": "Sam"}');
