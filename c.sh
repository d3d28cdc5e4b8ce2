curl -s http://127.0.0.1:18378/v1/chat/completions -d '{"messages": [{"role": "user", "content": "A shop sells 3 pens
      for 2 dollars. How many dollars do 12 pens cost? Think in one short line, then answer."}]}'
